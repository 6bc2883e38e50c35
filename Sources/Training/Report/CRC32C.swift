/// The CRC-32C of iSCSI and of TensorFlow's records (polynomial 0x82F63B78, RFC 3720).
enum CRC32C {
  private static let table: [UInt32] = (0..<256).map { byte in
    var entry = UInt32(byte)
    for _ in 0..<8 { entry = entry & 1 == 1 ? (entry >> 1) ^ 0x82F6_3B78 : entry >> 1 }
    return entry
  }

  /// The checksum of bytes.
  static func checksum(_ bytes: some Sequence<UInt8>) -> UInt32 {
    var state: UInt32 = ~0
    for byte in bytes { state = table[Int((state ^ UInt32(byte)) & 0xFF)] ^ (state >> 8) }
    return ~state
  }

  /// The checksum as records hold it: turned and moved, so that the checksum of bytes with their checksum is no constant.
  static func masked(_ bytes: some Sequence<UInt8>) -> UInt32 {
    let checksum = checksum(bytes)
    return ((checksum >> 15) | (checksum << 17)) &+ 0xA282_EAD8
  }
}
