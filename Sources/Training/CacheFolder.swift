import Glibc

/// The program's folder for what can be made again: `SWIFTLET_CACHE`, else below `XDG_CACHE_HOME` or `~/.cache`.
var cacheFolder: String? {
  func variable(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
  }
  return variable("SWIFTLET_CACHE") ?? variable("XDG_CACHE_HOME").map { $0 + "/swiftlet" }
    ?? variable("HOME").map { $0 + "/.cache/swiftlet" }
}
