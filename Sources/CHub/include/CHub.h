// What the hub client needs from C: libcurl behind a plain interface, digests, disk space.
#pragma once
#include "digest.h"
#include "files.h"
#include "http.h"
