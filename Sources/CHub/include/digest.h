// SHA-256 and SHA-1 (FIPS 180-4), fed piece by piece.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct {
  uint32_t state[8];
  uint64_t byte_count;
  uint8_t block[64];
  size_t filled;
} sl_digest;

void sl_sha256_begin(sl_digest *digest);
void sl_sha256_update(sl_digest *digest, const void *bytes, size_t count);
/// Writes 32 bytes.
void sl_sha256_end(sl_digest *digest, uint8_t *result);

void sl_sha1_begin(sl_digest *digest);
void sl_sha1_update(sl_digest *digest, const void *bytes, size_t count);
/// Writes 20 bytes.
void sl_sha1_end(sl_digest *digest, uint8_t *result);
