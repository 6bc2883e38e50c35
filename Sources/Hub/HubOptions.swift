/// How hard a download tries.
public struct HubOptions: Sendable {
  /// Requests at a time.
  public var connections = 8
  /// Bytes of one request; a file is cut into such parts.
  public var partSize = 32 << 20
  /// Attempts in a row that bring nothing before it gives up.
  public var attempts = 6
  /// Seconds before the second attempt; each further one waits twice as long.
  public var retryDelay = 0.5
  /// Seconds that a server may make us wait at most.
  public var longestWait = 120.0
  /// Seconds without a byte after which a connection counts as dead.
  public var stallSeconds = 30

  /// The defaults.
  public init() {}
}
