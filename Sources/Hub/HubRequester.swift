import Glibc

/// Asks the hub: follows redirects, keeps the token to its own host, waits and asks again where that helps.
struct HubRequester {
  let environment: HubEnvironment
  let options: HubOptions
  let session: HTTPSession
  let isCancelled: @Sendable () -> Bool

  init(
    environment: HubEnvironment, options: HubOptions, isCancelled: @escaping @Sendable () -> Bool
  ) throws(HubError) {
    self.environment = environment
    self.options = options
    self.isCancelled = isCancelled
    session = try HTTPSession(stallSeconds: options.stallSeconds, isCancelled: isCancelled)
  }

  /// One GET through its redirects.
  ///
  /// `location` receives where the body came from, so that the next part can go there.
  func get(_ url: String, range: ClosedRange<Int>? = nil, location: inout String?, body: @escaping HTTPSession.Body)
    throws(HubError) -> HTTPSession.Answer
  {
    var next = url
    for _ in 0..<10 {
      var headers = ["User-Agent: swiftlet"]
      // The token belongs to the hub alone: a store's signed address needs none, and must not learn it.
      if let token = environment.token, Self.isSameOrigin(next, environment.endpoint) {
        headers.append("Authorization: Bearer \(token)")
      }
      let answer = session.get(next, headers: headers, range: range) { bytes, answer in
        (300..<400).contains(answer.status) || body(bytes, answer)
      }
      guard (300..<400).contains(answer.status), !answer.redirect.isEmpty else {
        location = next
        return answer
      }
      if next.hasPrefix("https:"), !answer.redirect.hasPrefix("https:") {
        throw HubError("\(Self.host(next)): sends on to an address without encryption (\(Self.host(answer.redirect)))")
      }
      next = answer.redirect
    }
    throw HubError("\(Self.host(url)): redirects in a circle")
  }

  /// Why asking again would be of no use; nil when it may help.
  func refusal(_ answer: HTTPSession.Answer, _ repository: RepositoryName, file: String? = nil) -> HubError? {
    let what = repository.id + (file.map { "/" + $0 } ?? "")
    let web = "\(environment.endpoint)/\(repository.id)"
    switch answer.status {
    case 401, 403:
      let gated = answer.errorCode == "GatedRepo"
      if environment.token == nil {
        return HubError(
          gated
            ? "\(what): this model asks for its licence to be accepted; do so at \(web), then set HF_TOKEN"
            : "\(what): no such public model; check the name, or set HF_TOKEN for a private one",
          isAboutTheModel: !gated)
      }
      return HubError(
        gated
          ? "\(what): your token's account has not been granted this model; ask for it at \(web)"
          : "\(what): the hub refuses your HF_TOKEN (status \(answer.status))")
    case 404:
      if answer.errorCode == "RevisionNotFound" {
        return HubError("\(repository.id) has no revision '\(repository.revision)'")
      }
      return HubError(
        "\(what): the hub has no such \(file == nil ? "model" : "file"); check the name at \(web)",
        isAboutTheModel: file == nil)
    case 408, 429, 500..., 0: return nil
    case 400..<500: return HubError("\(what): the hub refuses this request (status \(answer.status))")
    default: return nil
    }
  }

  /// Waits before attempt `attempt` (from 1): twice as long each time, or as long as the server asked.
  func wait(beforeAttempt attempt: Int, _ answer: HTTPSession.Answer) throws(HubError) {
    let doubling = options.retryDelay * Double(1 << min(attempt - 1, 6))
    var left = min(answer.retryAfter ?? doubling, options.longestWait)
    while left > 0 {
      if isCancelled() { throw .cancelled }
      let nap = min(left, 0.1)
      usleep(UInt32(nap * 1e6))
      left -= nap
    }
    if isCancelled() { throw .cancelled }
  }

  /// A small answer, whole.
  func document(_ url: String, of repository: RepositoryName) throws(HubError) -> [UInt8] {
    var attempt = 0
    while true {
      let collected = Collected()
      var location: String?
      let answer = try get(url, location: &location) { bytes, _ in collected.append(bytes) }
      if answer.status == 200, answer.isComplete { return collected.bytes }
      if isCancelled() { throw .cancelled }
      if collected.isTooLong { throw HubError("\(repository.id): the hub's answer is too long for a listing") }
      if let refusal = refusal(answer, repository) { throw refusal }
      attempt += 1
      if attempt >= options.attempts { throw Self.unreachable(repository.id, answer, Self.host(url)) }
      try wait(beforeAttempt: attempt, answer)
    }
  }

  /// The end of every attempt's patience.
  static func unreachable(_ what: String, _ answer: HTTPSession.Answer, _ host: String) -> HubError {
    let reason =
      answer.status == 429
      ? "asks to come back later (status 429)"
      : answer.status >= 500
        ? "fails (status \(answer.status))"
        : answer.message.isEmpty ? "breaks off" : "cannot be reached: \(answer.message)"
    return HubError(
      "\(what): \(host) \(reason); run the same command again to go on", isTransient: true, isAboutTheModel: true)
  }

  /// Whether two addresses share scheme, host and port.
  static func isSameOrigin(_ left: String, _ right: String) -> Bool { origin(left) == origin(right) }

  /// Scheme, host and port with its default; user names and passwords do not count.
  private static func origin(_ url: String) -> [String]? {
    guard let mark = url.range(ofText: "://") else { return nil }
    let scheme = url[..<mark.lowerBound].lowercased()
    let rest = url[mark.upperBound...].prefix { !"/?#".contains($0) }
    let authority = rest.split(separator: "@", omittingEmptySubsequences: false).last ?? rest
    let hasPort = authority.last?.isNumber == true && authority.contains(":") && !authority.hasSuffix("]")
    let port = scheme == "https" ? "443" : "80"
    return [scheme, authority.lowercased() + (hasPort ? "" : ":" + port)]
  }

  static func host(_ url: String) -> String { origin(url)?[1] ?? url }

  private final class Collected {
    private(set) var bytes: [UInt8] = []
    private(set) var isTooLong = false

    func append(_ more: UnsafeRawBufferPointer) -> Bool {
      isTooLong = bytes.count + more.count > 64 << 20
      if !isTooLong { bytes.append(contentsOf: more) }
      return !isTooLong
    }
  }
}

extension String {
  /// Where `text` first stands.
  fileprivate func range(ofText text: String) -> Range<String.Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
      start = index(after: start)
    }
    return nil
  }
}
