import Glibc

/// Where the hub is and what this machine keeps of it: the variables that Hugging Face's own tools read.
public struct HubEnvironment: Sendable, Equatable {
  /// The hub's address without a slash at its end: `HF_ENDPOINT`.
  public var endpoint: String
  /// Folder of `models--OWNER--NAME`: `HF_HUB_CACHE`, else `HF_HOME/hub`.
  public var cache: String
  /// What gated and private repositories ask for: `HF_TOKEN`, else the file that `hf auth login` wrote.
  public var token: String?
  /// Whether the network must not be used: `HF_HUB_OFFLINE`.
  public var isOffline: Bool

  /// An environment from its values.
  public init(endpoint: String, cache: String, token: String? = nil, isOffline: Bool = false) {
    self.endpoint = endpoint
    self.cache = cache
    self.token = token
    self.isOffline = isOffline
  }

  /// What this process's environment says; `variable` looks one up.
  public init(variable: (String) -> String? = HubEnvironment.variable) {
    func set(_ name: String) -> String? { variable(name).flatMap { $0.isEmpty ? nil : $0 } }
    func isTrue(_ name: String) -> Bool { ["1", "true", "yes", "on"].contains(set(name)?.lowercased()) }
    let user = set("HOME") ?? "."
    func expanded(_ path: String) -> String { path == "~" || path.hasPrefix("~/") ? user + path.dropFirst() : path }
    let home = expanded(set("HF_HOME") ?? (set("XDG_CACHE_HOME") ?? user + "/.cache") + "/huggingface")
    var endpoint = set("HF_ENDPOINT") ?? "https://huggingface.co"
    while endpoint.hasSuffix("/") { endpoint.removeLast() }
    self.endpoint = endpoint
    cache = expanded(set("HF_HUB_CACHE") ?? set("HUGGINGFACE_HUB_CACHE") ?? home + "/hub")
    isOffline = isTrue("HF_HUB_OFFLINE") || isTrue("TRANSFORMERS_OFFLINE")
    let words =
      set("HF_TOKEN") ?? set("HUGGING_FACE_HUB_TOKEN")
      ?? Self.firstLine(of: expanded(set("HF_TOKEN_PATH") ?? home + "/token"))
    // A token goes into a header: what could end the header's line is no token.
    token = words.flatMap { word in
      !word.isEmpty && word.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F } ? word : nil
    }
  }

  /// A variable of this process.
  public static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  /// The first line of a small file.
  private static func firstLine(of path: String) -> String? {
    guard let file = fopen(path, "re") else { return nil }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = fread(&buffer, 1, buffer.count, file)
    let line = buffer.prefix(count).prefix { $0 != 0x0A && $0 != 0x0D }
    return String(decoding: line, as: UTF8.self)
  }
}
