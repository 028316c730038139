package kernel

// The program runs everywhere, so the directive stands in a file that does.

//go:generate go -C gen run ./neon -dir ..
