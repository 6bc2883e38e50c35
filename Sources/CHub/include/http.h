// GET requests over libcurl, which is opened at run time: a machine without it runs everything but the hub.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Opens libcurl once; null when it is there, else why not.
const char *sl_http_unavailable(void);

/// A session keeps its connections for the next request. One thread at a time.
typedef struct sl_http_session sl_http_session;
sl_http_session *sl_http_session_make(void);
void sl_http_session_free(sl_http_session *session);

typedef struct {
  const char *url;
  /// "Name: value".
  const char *const *headers;
  size_t header_count;
  /// "first-last", or null for the whole.
  const char *range;
  /// Takes bytes of the body; fewer than `count` back end the request.
  size_t (*body)(void *context, const uint8_t *bytes, size_t count, long status);
  /// Takes a header's line.
  void (*header)(void *context, const char *line, size_t count);
  /// Asked several times a second; not 0 ends the request.
  int (*cancelled)(void *context);
  void *context;
  /// Seconds without a byte after which the connection counts as dead.
  long stall_seconds;
} sl_http_request;

typedef struct {
  /// HTTP's status; 0 when there was no answer.
  long status;
  /// Whether the answer came whole.
  int complete;
  /// libcurl's words when it did not.
  char message[256];
  /// Where a 3xx answer points, absolute, until the session's next request; null otherwise.
  const char *redirect;
} sl_http_result;

void sl_http_get(sl_http_session *session, const sl_http_request *request, sl_http_result *result);
