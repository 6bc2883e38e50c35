import CHub
import Glibc

/// SHA-256 over parts whose borders count.
struct ContentHash {
  private var digest = sl_digest()

  init() { sl_sha256_begin(&digest) }

  /// Takes in the bytes of a part, after their number.
  mutating func update(_ bytes: some Collection<UInt8>) {
    append(UInt64(bytes.count))
    let bytes = Array(bytes)
    sl_sha256_update(&digest, bytes, bytes.count)
  }

  /// Takes in a text.
  mutating func update(_ text: String) { update(Array(text.utf8)) }

  /// Takes in the bytes of a file as they lie there; `false` when they cannot be read.
  mutating func update(contentsOf file: String) -> Bool {
    let descriptor = open(file, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL)
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    var total = UInt64(0)
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { return false }
      if count == 0 { break }
      sl_sha256_update(&digest, buffer, count)
      total += UInt64(count)
    }
    append(total)
    return true
  }

  /// The hash of all parts so far.
  func value() -> [UInt8] {
    var digest = digest
    var result = [UInt8](repeating: 0, count: 32)
    sl_sha256_end(&digest, &result)
    return result
  }

  /// The hash of all parts so far, in hexadecimal digits.
  func hexadecimal() -> String {
    value().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  private mutating func append(_ number: UInt64) {
    withUnsafeBytes(of: number.littleEndian) { sl_sha256_update(&digest, $0.baseAddress, $0.count) }
  }
}
