#define CURL_DISABLE_DEPRECATION
#include "http.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// curl's headers wrap some functions in type-checking macros.
#undef curl_easy_setopt
#undef curl_easy_getinfo

static struct {
  __typeof__(&curl_global_init) global_init;
  __typeof__(&curl_easy_init) easy_init;
  __typeof__(&curl_easy_cleanup) easy_cleanup;
  __typeof__(&curl_easy_reset) easy_reset;
  __typeof__(&curl_easy_setopt) easy_setopt;
  __typeof__(&curl_easy_perform) easy_perform;
  __typeof__(&curl_easy_getinfo) easy_getinfo;
  __typeof__(&curl_easy_strerror) easy_strerror;
  __typeof__(&curl_slist_append) slist_append;
  __typeof__(&curl_slist_free_all) slist_free_all;
} curl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *unavailable;

static void open_library(void) {
  // Debian builds it once per TLS library; any serves.
  static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl-nss.so.4", "libcurl.so"};
  void *library = NULL;
  for (size_t i = 0; library == NULL && i < sizeof names / sizeof *names; i++) library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    unavailable = "libcurl is not installed here; install it with: apt-get install libcurl4 (or your system's libcurl)";
    return;
  }
#define FIND(field, symbol) if ((curl.field = (__typeof__(curl.field))dlsym(library, symbol)) == NULL) unavailable = "this libcurl lacks " symbol
  FIND(global_init, "curl_global_init");
  FIND(easy_init, "curl_easy_init");
  FIND(easy_cleanup, "curl_easy_cleanup");
  FIND(easy_reset, "curl_easy_reset");
  FIND(easy_setopt, "curl_easy_setopt");
  FIND(easy_perform, "curl_easy_perform");
  FIND(easy_getinfo, "curl_easy_getinfo");
  FIND(easy_strerror, "curl_easy_strerror");
  FIND(slist_append, "curl_slist_append");
  FIND(slist_free_all, "curl_slist_free_all");
#undef FIND
  if (unavailable == NULL && curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) unavailable = "libcurl could not start";
}

const char *sl_http_unavailable(void) {
  pthread_once(&once, open_library);
  return unavailable;
}

struct sl_http_session {
  CURL *easy;
  const sl_http_request *request;
};

sl_http_session *sl_http_session_make(void) {
  if (sl_http_unavailable() != NULL) return NULL;
  sl_http_session *session = calloc(1, sizeof *session);
  if (session == NULL) return NULL;
  session->easy = curl.easy_init();
  if (session->easy != NULL) return session;
  free(session);
  return NULL;
}

void sl_http_session_free(sl_http_session *session) {
  if (session == NULL) return;
  curl.easy_cleanup(session->easy);
  free(session);
}

static size_t take_body(char *bytes, size_t size, size_t count, void *context) {
  sl_http_session *session = context;
  long status = 0;
  curl.easy_getinfo(session->easy, CURLINFO_RESPONSE_CODE, &status);
  return session->request->body(session->request->context, (const uint8_t *)bytes, size * count, status);
}

static size_t take_header(char *bytes, size_t size, size_t count, void *context) {
  sl_http_session *session = context;
  session->request->header(session->request->context, bytes, size * count);
  return size * count;
}

static int ask_cancelled(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
  (void)a, (void)b, (void)c, (void)d;
  sl_http_session *session = context;
  return session->request->cancelled(session->request->context);
}

void sl_http_get(sl_http_session *session, const sl_http_request *request, sl_http_result *result) {
  memset(result, 0, sizeof *result);
  CURL *easy = session->easy;
  session->request = request;
  // Options go, connections stay.
  curl.easy_reset(easy);
  struct curl_slist *headers = NULL;
  for (size_t i = 0; i < request->header_count; i++) {
    struct curl_slist *longer = curl.slist_append(headers, request->headers[i]);
    if (longer == NULL) {
      curl.slist_free_all(headers);
      snprintf(result->message, sizeof result->message, "out of memory");
      return;
    }
    headers = longer;
  }
  char detail[CURL_ERROR_SIZE] = "";
  curl.easy_setopt(easy, CURLOPT_URL, request->url);
  curl.easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
  curl.easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
  // The caller follows redirects itself: it decides who sees the token.
  curl.easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  if (request->range != NULL) curl.easy_setopt(easy, CURLOPT_RANGE, request->range);
  curl.easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl.easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, 20L);
  curl.easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl.easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, request->stall_seconds);
  curl.easy_setopt(easy, CURLOPT_BUFFERSIZE, 512L * 1024);
  curl.easy_setopt(easy, CURLOPT_ERRORBUFFER, detail);
  curl.easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
  curl.easy_setopt(easy, CURLOPT_WRITEDATA, session);
  curl.easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
  curl.easy_setopt(easy, CURLOPT_HEADERDATA, session);
  curl.easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
  curl.easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, ask_cancelled);
  curl.easy_setopt(easy, CURLOPT_XFERINFODATA, session);
  CURLcode code = curl.easy_perform(easy);
  curl.easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &result->status);
  if (code == CURLE_OK) curl.easy_getinfo(easy, CURLINFO_REDIRECT_URL, &result->redirect);
  result->complete = code == CURLE_OK;
  if (code != CURLE_OK) snprintf(result->message, sizeof result->message, "%s", detail[0] ? detail : curl.easy_strerror(code));
  curl.easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
  curl.slist_free_all(headers);
  session->request = NULL;
}
