import Foundation
import TestSupport

@testable import Hub

/// Bytes that no two places share.
func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
  var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
  return (0..<count).map { _ in
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return UInt8(truncatingIfNeeded: state >> 24)
  }
}

/// Runs `body` with an empty cache folder that is removed afterwards.
func withCache<Result>(_ body: (String) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("swiftlet-hub-" + UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder.path)
}

/// A client of the local hub that is quick to try again.
func client(_ server: LocalHub, cache: String, token: String? = nil, _ change: (inout HubOptions) -> Void = { _ in })
  -> HuggingFaceHub
{
  var options = HubOptions()
  options.partSize = 10_000
  options.connections = 4
  options.attempts = 3
  options.retryDelay = 0.01
  options.stallSeconds = 5
  change(&options)
  return HuggingFaceHub(
    environment: HubEnvironment(endpoint: server.endpoint, cache: cache, token: token), options: options)
}
