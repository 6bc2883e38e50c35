import CHub
import Glibc

/// One thread's connections to the hub and to the stores it points at.
final class HTTPSession {
  /// What a request ended with.
  struct Answer {
    /// HTTP's status; 0 when no answer came.
    var status = 0
    /// Whether the answer came whole.
    var isComplete = false
    /// Why it did not.
    var message = ""
    /// Where a 3xx answer points.
    var redirect = ""
    /// `Retry-After` in seconds.
    var retryAfter: Double?
    /// The hub's own word for an error: `GatedRepo`, `RepoNotFound` and so on.
    var errorCode: String?
    /// The first byte and the size of the whole in `Content-Range`.
    var contentRange: (first: Int, total: Int?)?
  }

  /// Takes a part of the body, with what the answer's headers said; false ends the request.
  typealias Body = (UnsafeRawBufferPointer, Answer) -> Bool

  private let session: OpaquePointer
  private let isCancelled: @Sendable () -> Bool
  private let stallSeconds: Int

  /// Opens libcurl; `isCancelled` is asked several times a second.
  init(stallSeconds: Int, isCancelled: @escaping @Sendable () -> Bool) throws(HubError) {
    if let reason = sl_http_unavailable() { throw HubError(String(cString: reason)) }
    guard let session = sl_http_session_make() else { throw HubError("libcurl could not make a session") }
    self.session = session
    self.isCancelled = isCancelled
    self.stallSeconds = stallSeconds
  }

  deinit { sl_http_session_free(session) }

  /// One GET without following redirects.
  func get(_ url: String, headers: [String], range: ClosedRange<Int>? = nil, body: @escaping Body) -> Answer {
    let exchange = Exchange(body: body, isCancelled: isCancelled)
    let lines = headers.map { strdup($0) }
    let rangeText = range.map { strdup("\($0.lowerBound)-\($0.upperBound)") }
    defer {
      lines.forEach { free($0) }
      if let rangeText { free(rangeText) }
    }
    var result = sl_http_result()
    url.withCString { url in
      lines.map { $0.map { UnsafePointer<CChar>($0) } }.withUnsafeBufferPointer { lines in
        var request = sl_http_request()
        request.url = url
        request.headers = lines.baseAddress
        request.header_count = lines.count
        request.range = rangeText.map { UnsafePointer($0) } ?? nil
        request.stall_seconds = stallSeconds
        request.context = Unmanaged.passUnretained(exchange).toOpaque()
        request.body = { context, bytes, count, status in
          guard let context, let bytes else { return 0 }
          let exchange = Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue()
          exchange.answer.status = status
          return exchange.body(UnsafeRawBufferPointer(start: bytes, count: count), exchange.answer) ? count : 0
        }
        request.header = { context, line, count in
          guard let context, let line else { return }
          Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue()
            .take(header: UnsafeRawBufferPointer(start: line, count: count))
        }
        request.cancelled = { context in
          guard let context else { return 1 }
          return Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue().isCancelled() ? 1 : 0
        }
        withExtendedLifetime(exchange) { sl_http_get(session, &request, &result) }
      }
    }
    var answer = exchange.answer
    answer.status = result.status
    answer.isComplete = result.complete != 0
    answer.message = text(of: result.message)
    answer.redirect = result.redirect.map { String(cString: $0) } ?? ""
    return answer
  }

  /// A C array of characters as text.
  private func text<Characters>(of characters: Characters) -> String {
    withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }
}

/// What libcurl's callbacks of one request share.
private final class Exchange {
  let body: HTTPSession.Body
  let isCancelled: @Sendable () -> Bool
  var answer = HTTPSession.Answer()

  init(body: @escaping HTTPSession.Body, isCancelled: @escaping @Sendable () -> Bool) {
    self.body = body
    self.isCancelled = isCancelled
  }

  func take(header bytes: UnsafeRawBufferPointer) {
    let line = String(decoding: bytes.prefix(1024), as: UTF8.self)
    guard let colon = line.firstIndex(of: ":") else {
      // A status line begins another answer, after `100 Continue`.
      if line.hasPrefix("HTTP/") { answer = HTTPSession.Answer() }
      return
    }
    let value = line[line.index(after: colon)...].trimmed
    switch line[..<colon].lowercased() {
    case "retry-after": answer.retryAfter = Double(value).flatMap { $0.isFinite && $0 >= 0 ? $0 : nil }
    case "x-error-code": answer.errorCode = value
    case "content-range":
      // bytes FIRST-LAST/TOTAL
      guard let space = value.firstIndex(of: " "), let dash = value.firstIndex(of: "-"), space < dash,
        let first = Int(value[value.index(after: space)..<dash]), let slash = value.firstIndex(of: "/")
      else { return }
      answer.contentRange = (first, Int(value[value.index(after: slash)...]))
    default: break
    }
  }
}

extension Substring {
  /// Without white space at its ends.
  fileprivate var trimmed: String {
    var rest = self
    while let first = rest.first, first.isWhitespace { rest.removeFirst() }
    while let last = rest.last, last.isWhitespace { rest.removeLast() }
    return String(rest)
  }
}
