package report

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTextIsUTF8AndCut(t *testing.T) {
	tests := []struct {
		name  string
		in    string
		limit int
		want  string
	}{
		{"plain", "abc", 10, "abc"},
		{"just fits", "abc", 3, "abc"},
		{"cut", "abcd", 3, "abc..."},
		{"cut before a character", "a\u20acb", 3, "a..."},
		{"cut after a character", "a\u20acb", 4, "a\u20ac..."},
		{"no byte at all", "abc", 0, "..."},
		{"bytes that are no text", "a\xff\xc0b", 10, `a\xff\xc0b`},
		{"a lone surrogate", "\xed\xa0\x80", 10, `\xed\xa0\x80`},
		{"cut in bytes that are no text", strings.Repeat("\x80", 9), 8, strings.Repeat(`\x80`, 4) + "..."},
		{"controls stay for the writer", "a\x1b\x00\n", 10, "a\x1b\x00\n"},
		{"a replacement character of its own", "\ufffd", 10, "\ufffd"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Text([]byte(tt.in), tt.limit); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestEscapeTerminalShowsWhatItTakesAway(t *testing.T) {
	for in, want := range map[string]string{
		"plain \u00e9 \u6f22 \U0001f600": "plain \u00e9 \u6f22 \U0001f600",
		"a\nb\tc\rd":                     `a\nb\tc\rd`,
		"\x1b[0m\x07\x7f":                `\x1b[0m\x07\x7f`,
		"\u009b \u00ad \u00a0":           `\x9b \xad \xa0`,
		"\u202e \u2028 \ufeff \u200d":    `\u202e \u2028 \ufeff \u200d`,
		"\U000e0041 \U0010ffff":          `\U000e0041 \U0010ffff`,
		"\xff\xed\xa0\x80":               `\xff\xed\xa0\x80`,
		"\ufe0f \U000e0100 \u3164":       `\ufe0f \U000e0100 \u3164`,
		`a\b`:                            `a\b`,
		"":                               "",
	} {
		if got := EscapeTerminal(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestWordsOfALine(t *testing.T) {
	tests := []struct {
		in, want string
	}{
		{"openat", "openat"},
		{"<lambda>", "<lambda>"},
		{"", `""`},
		{"a b", `"a b"`},
		{`say "x"`, `"say \"x\""`},
		{"f,", `"f,"`},
		{"0123456789abcdefghij", "0123456789abcdefghij"},
		{"0123456789abcdefghijk", "01234567...defghijk"},
		{"0123456789\x1b9abcdefghijk", "01234567...defghijk"},
		{strings.Repeat("\u6f22", 21), strings.Repeat("\u6f22", 8) + "..." + strings.Repeat("\u6f22", 8)},
	}
	for _, tt := range tests {
		if got := word(tt.in, 20); got != tt.want {
			t.Errorf("%q becomes %s, want %s", tt.in, got, tt.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, text := range attacks {
		if len(text) < 1000 {
			f.Add(text, 20)
		}
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = min(max(limit, 8), 1000)
		escaped := EscapeTerminal(s)
		if r, bad := harmful([]byte(escaped)); bad || strings.Contains(escaped, "\n") || !utf8.ValidString(escaped) {
			t.Errorf("%q becomes %q, with %U", s, escaped, r)
		}
		if again := EscapeTerminal(escaped); again != escaped {
			t.Errorf("%q, escaped again %q", escaped, again)
		}

		text := Text([]byte(s), limit)
		if !utf8.ValidString(text) || len(text) > 4*limit+3 {
			t.Errorf("%q becomes the text %q", s, text)
		}
		if len(s) <= limit {
			if again := Text([]byte(text), len(text)); again != text {
				t.Errorf("%q, made a text again %q", text, again)
			}
			if utf8.ValidString(s) && text != s {
				t.Errorf("%q is a text, and becomes %q", s, text)
			}
		}

		shown := word(s, limit)
		if r, bad := harmful([]byte(shown)); bad || strings.Contains(shown, "\n") || utf8.RuneCountInString(shown) > 2*limit+2 || shown == "" {
			t.Errorf("%q becomes the word %q, with %U", s, shown, r)
		}

		data, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		safe := escapeJSON(data)
		if r, bad := harmful(safe); bad {
			t.Errorf("%q becomes %s, with %U", text, safe, r)
		}
		if len(safe) > escapedSize(text) {
			t.Errorf("%q takes %d bytes, counted as %d", text, len(safe), escapedSize(text))
		}
		var back string
		if err := json.Unmarshal(safe, &back); err != nil || back != text {
			t.Errorf("%q comes back as %q, %v", text, back, err)
		}
	})
}
