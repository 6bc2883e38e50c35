/// The CRC-32 of zlib, PNG and Ethernet (polynomial 0xEDB88320), eight bytes at a time.
///
/// It finds the damage that disks and killed processes do; it is no protection against intent.
package struct CRC32 {
  private var state: UInt32 = ~0

  /// The checksum of no bytes.
  package init() {}

  /// Takes in more bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    var state = self.state
    Self.tables.withUnsafeBufferPointer { table in
      var position = 0
      while position + 8 <= bytes.count {
        let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)) ^ UInt64(state)
        state =
          table[1792 + Int(word & 0xFF)] ^ table[1536 + Int(word >> 8 & 0xFF)]
          ^ table[1280 + Int(word >> 16 & 0xFF)] ^ table[1024 + Int(word >> 24 & 0xFF)]
          ^ table[768 + Int(word >> 32 & 0xFF)] ^ table[512 + Int(word >> 40 & 0xFF)]
          ^ table[256 + Int(word >> 48 & 0xFF)] ^ table[Int(word >> 56)]
        position += 8
      }
      while position < bytes.count {
        state = table[Int((state ^ UInt32(bytes[position])) & 0xFF)] ^ (state >> 8)
        position += 1
      }
    }
    self.state = state
  }

  /// The checksum of all bytes so far.
  var value: UInt32 { ~state }

  /// The checksum as eight hexadecimal digits.
  package var hexadecimal: String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
  }

  /// Entry `256 k + b`: what byte `b` does to the state when `k` more bytes follow.
  private static let tables: [UInt32] = {
    var table = [UInt32](repeating: 0, count: 8 * 256)
    for byte in 0..<256 {
      var entry = UInt32(byte)
      for _ in 0..<8 { entry = entry & 1 == 1 ? (entry >> 1) ^ 0xEDB8_8320 : entry >> 1 }
      table[byte] = entry
    }
    for entry in 256..<2048 {
      let before = table[entry - 256]
      table[entry] = (before >> 8) ^ table[Int(before & 0xFF)]
    }
    return table
  }()
}
