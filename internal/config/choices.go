package config

import (
	"regexp"
	"slices"
)

// quoted are the words in a setting's want that are meant literally.
var quoted = regexp.MustCompile(`"([a-z0-9.]+)"`)

// Choices returns the words that a flag takes, for a shell to offer; nil for one whose
// values are made up by the user. known reports whether it is a setting's flag at all.
func Choices(flag string) (words []string, known bool) {
	i := slices.IndexFunc(settings(), func(s setting) bool { return s.flag == flag })
	if i < 0 {
		return nil, false
	}
	s := settings()[i]
	for _, m := range quoted.FindAllStringSubmatch(s.want, -1) {
		// What is told as valid is what is: the parser has the last word.
		if s.set(nowhere(), m[1]) == nil {
			words = append(words, m[1])
		}
	}
	return words, true
}
