import CHub
import Foundation

@testable import Hub

func sha256(_ bytes: [UInt8]) -> String {
  var digest = sl_digest()
  var result = [UInt8](repeating: 0, count: 32)
  sl_sha256_begin(&digest)
  sl_sha256_update(&digest, bytes, bytes.count)
  sl_sha256_end(&digest, &result)
  return hexadecimal(result)
}

func gitBlob(_ bytes: [UInt8]) -> String {
  var digest = sl_digest()
  var result = [UInt8](repeating: 0, count: 20)
  let header = Array("blob \(bytes.count)\0".utf8)
  sl_sha1_begin(&digest)
  sl_sha1_update(&digest, header, header.count)
  sl_sha1_update(&digest, bytes, bytes.count)
  sl_sha1_end(&digest, &result)
  return hexadecimal(result)
}

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
