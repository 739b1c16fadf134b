// Keeps up the stream of the state, and knows whether what it brought is still true.

const SILENT = 3_500; // ms without a frame, of which there is one a second: it is not live
const DEAD = 10_000; // ms: try a new connection, this one may hang in the network

export class Link {
  #source = null;
  #timer = 0;
  #opened = 0;
  state = "connecting"; // live, lost or paused
  seen = null; // when the last frame came, by this machine's clock

  // frame is called with each snapshot, changed with each other state.
  constructor(url, frame, changed) {
    this.url = url;
    this.frame = frame;
    this.changed = changed;
    setInterval(() => this.#watch(), 500);
    document.addEventListener("visibilitychange", () => this.#watch());
    this.#open();
  }

  pause(on) {
    this.#close();
    if (on) this.#set("paused");
    else {
      this.#set("connecting");
      this.#open();
    }
  }

  #open() {
    this.#close();
    this.#opened = Date.now();
    const source = new EventSource(this.url);
    this.#source = source;
    source.onmessage = (e) => {
      const page = JSON.parse(e.data);
      if (!page.masters) return; // the sidecar could not tell its state: nothing new was seen
      this.seen = new Date();
      this.#set("live");
      this.frame(page);
    };
    source.onerror = () => {
      this.#set("lost");
      // The browser comes back by itself unless it was answered something else than a stream.
      if (source.readyState === EventSource.CLOSED) this.#timer = setTimeout(() => this.#open(), 2000 + Math.random() * 2000);
    };
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #watch() {
    if (this.state === "paused" || !this.#source) return;
    const now = Date.now();
    if (this.state === "live" && now - this.seen > SILENT) this.#set("lost");
    const quiet = now - Math.max(this.seen ?? 0, this.#opened);
    if (quiet > DEAD) this.#open();
  }

  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.changed(state);
  }
}
