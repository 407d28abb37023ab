#include "products.h"

/* The digest of the files that this library was made from; empty where the compiler or its machine is not one for them. */
const char *source(void) {
#ifdef SUPPORTED
  return SOURCE;
#else
  return "";
#endif
}
