"""Reads and writes files, inside and outside what the profile grants."""
for path, mode in (("/etc/shadow", "r"), ("/tmp/notes.txt", "w"), ("/etc/motd", "w")):
    try:
        with open(path, mode) as f:
            if mode == "w":
                f.write("hello\n")
        print(mode, path, "allowed")
    except OSError as error:
        print(mode, path, "refused:", type(error).__name__)
