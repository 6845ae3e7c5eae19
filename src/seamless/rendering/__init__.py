"""How the API's JSON reads for people: words, times and lines that the CLI and the TUI share. No I/O."""
