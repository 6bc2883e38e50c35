/// Reading Unicode scalars out of bytes that are known to be UTF-8.
enum UTF8Bytes {
  /// The length of the scalar whose first byte this is.
  @inline(__always)
  static func length(_ first: UInt8) -> Int {
    first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
  }

  /// The scalar that starts at `index`, and its length.
  @inline(__always)
  static func scalar(
    _ bytes: UnsafePointer<UInt8>, _ index: Int, _ count: Int
  ) -> (scalar: Unicode.Scalar, length: Int) {
    let first = bytes[index]
    if first < 0x80 { return (Unicode.Scalar(first), 1) }
    let length = min(Self.length(first), count - index)
    var value = UInt32(first) & (0x7F >> UInt32(length))
    for offset in 1..<max(length, 1) { value = value << 6 | UInt32(bytes[index + offset] & 0x3F) }
    return (Unicode.Scalar(value) ?? "\u{FFFD}", length)
  }

  /// Where the scalar before `index` starts.
  @inline(__always)
  static func before(_ bytes: UnsafePointer<UInt8>, _ index: Int) -> Int {
    var start = index - 1
    while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
    return start
  }
}
