#include "CBlockFormats.h"
