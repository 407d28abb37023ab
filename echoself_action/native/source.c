/* The digest of the files that this library was made from. */
const char *source(void) { return SOURCE; }
