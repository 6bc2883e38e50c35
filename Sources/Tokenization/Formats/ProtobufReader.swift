/// Reads the fields of one message in protobuf's wire format, from first to last.
///
/// Every length is checked against the bytes that are left before anything is taken.
struct ProtobufReader {
  /// What a field holds.
  enum Value {
    case varint(UInt64)
    case fixed64(UInt64)
    case bytes(Range<Int>)
    case fixed32(UInt32)
  }

  /// Why bytes are no message: what, and at which byte.
  struct Failure: Error {
    var message: String
    var offset: Int
  }

  private let bytes: UnsafeRawBufferPointer
  private var offset: Int
  private let end: Int

  /// Makes a reader of a message that lies in `range` of the file.
  init(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) {
    self.bytes = bytes
    offset = range.lowerBound
    end = range.upperBound
  }

  /// The next field's number and value; `nil` at the end.
  mutating func next() throws(Failure) -> (field: Int, value: Value)? {
    guard offset < end else { return nil }
    let start = offset
    let key = try varint()
    let field = key >> 3
    guard field > 0, field < 1 << 29 else { throw Failure(message: "no field has the number \(field)", offset: start) }
    let value: Value
    switch key & 7 {
    case 0: value = .varint(try varint())
    case 1: value = .fixed64(try fixed(8))
    case 2:
      let length = try varint()
      guard length <= UInt64(end - offset) else {
        throw Failure(message: "a length of \(length) where \(end - offset) bytes are left", offset: start)
      }
      value = .bytes(offset..<offset + Int(length))
      offset += Int(length)
    case 5: value = .fixed32(UInt32(truncatingIfNeeded: try fixed(4)))
    default: throw Failure(message: "the wire type \(key & 7) is not known", offset: start)
    }
    return (Int(field), value)
  }

  private mutating func varint() throws(Failure) -> UInt64 {
    var result: UInt64 = 0
    for index in 0..<10 {
      guard offset < end else { throw Failure(message: "the file ends within a number", offset: offset) }
      let byte = bytes[offset]
      offset += 1
      if index == 9, byte > 1 { break }
      result |= UInt64(byte & 0x7F) << UInt64(7 * index)
      if byte < 0x80 { return result }
    }
    throw Failure(message: "a number of more than 64 bits", offset: offset)
  }

  private mutating func fixed(_ count: Int) throws(Failure) -> UInt64 {
    guard end - offset >= count else { throw Failure(message: "the file ends within a number", offset: offset) }
    var result: UInt64 = 0
    for index in 0..<count { result |= UInt64(bytes[offset + index]) << UInt64(8 * index) }
    offset += count
    return result
  }
}
