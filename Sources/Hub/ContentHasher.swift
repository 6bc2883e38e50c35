import CHub

/// Hashes a file's bytes in order and says whether they are what the hub's listing promised.
struct ContentHasher {
  private var digest = sl_digest()
  private let expected: RepositoryFile.Digest

  init(_ file: RepositoryFile) {
    expected = file.digest
    switch expected {
    case .sha256: sl_sha256_begin(&digest)
    case .gitBlob:
      sl_sha1_begin(&digest)
      let header = Array("blob \(file.size)\0".utf8)
      sl_sha1_update(&digest, header, header.count)
    }
  }

  /// Takes the next bytes.
  mutating func update(_ bytes: UnsafeRawBufferPointer) {
    switch expected {
    case .sha256: sl_sha256_update(&digest, bytes.baseAddress, bytes.count)
    case .gitBlob: sl_sha1_update(&digest, bytes.baseAddress, bytes.count)
    }
  }

  /// Whether the bytes hash to what was promised.
  mutating func matches() -> Bool {
    switch expected {
    case .sha256(let name):
      var result = [UInt8](repeating: 0, count: 32)
      sl_sha256_end(&digest, &result)
      return hexadecimal(result) == name
    case .gitBlob(let name):
      var result = [UInt8](repeating: 0, count: 20)
      sl_sha1_end(&digest, &result)
      return hexadecimal(result) == name
    }
  }
}
