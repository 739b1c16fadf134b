// A Redis module for TestLearnsModuleCommands: commands with flags of every kind.
// It declares the few functions of the module API that it uses, so no header of
// Redis is needed.

#include <stddef.h>

typedef struct Ctx Ctx;
typedef struct String String;
typedef int (*Command)(Ctx *, String **, int);

static int (*GetApi)(const char *, void *);
static void (*SetModuleAttribs)(Ctx *, const char *, int, int);
static int (*CreateCommand)(Ctx *, const char *, Command, const char *, int, int, int);
static void *(*GetCommand)(Ctx *, const char *);
static int (*CreateSubcommand)(void *, const char *, Command, const char *, int, int, int);
static int (*ReplyWithLongLong)(Ctx *, long long);
static unsigned long long (*GetClientId)(Ctx *);

// whoami answers the id of the connection that it came on.
static int whoami(Ctx *ctx, String **argv, int argc) {
	(void)argv, (void)argc;
	return ReplyWithLongLong(ctx, (long long)GetClientId(ctx));
}

int RedisModule_OnLoad(Ctx *ctx, String **argv, int argc) {
	(void)argv, (void)argc;
	GetApi = *(int (**)(const char *, void *))ctx;
	GetApi("RedisModule_SetModuleAttribs", (void *)&SetModuleAttribs);
	GetApi("RedisModule_CreateCommand", (void *)&CreateCommand);
	GetApi("RedisModule_GetCommand", (void *)&GetCommand);
	GetApi("RedisModule_CreateSubcommand", (void *)&CreateSubcommand);
	GetApi("RedisModule_ReplyWithLongLong", (void *)&ReplyWithLongLong);
	GetApi("RedisModule_GetClientId", (void *)&GetClientId);
	SetModuleAttribs(ctx, "t", 1, 1);
	if (CreateCommand(ctx, "t.read", whoami, "readonly fast", 1, 1, 1) ||
	    CreateCommand(ctx, "t.write", whoami, "write deny-oom", 1, 1, 1) ||
	    CreateCommand(ctx, "t.keyless", whoami, "readonly", 0, 0, 0) ||
	    CreateCommand(ctx, "t.noscript", whoami, "write deny-script", 1, 1, 1) ||
	    CreateCommand(ctx, "t.login", whoami, "no-auth", 0, 0, 0) ||
	    CreateCommand(ctx, "t.box", NULL, "", 0, 0, 0))
		return 1;
	void *box = GetCommand(ctx, "t.box");
	return CreateSubcommand(box, "get", whoami, "readonly", 2, 2, 1) ||
	       CreateSubcommand(box, "admin", whoami, "admin", 0, 0, 0);
}
