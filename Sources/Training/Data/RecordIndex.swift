import Glibc

/// Where the records of a JSON or JSONL file lie: found without parsing them, so that a file larger than memory is read
/// record by record.
struct RecordIndex: Sendable {
  /// The bytes of one record and the line, counted from 1, on which it begins.
  struct Record: Sendable, Equatable {
    var start: Int
    var count: Int
    var line: Int
  }

  var records: [Record] = []
  /// Bytes of a record at most; beyond, a file is taken for something else than training data.
  static let maximumRecordBytes = 256 << 20

  /// One record per line; blank lines are skipped, a carriage return at a line's end belongs to the line break.
  static func lines(
    of bytes: UnsafeRawBufferPointer, path: String, limit: Int = maximumRecordBytes
  ) throws(DatasetError) -> RecordIndex {
    var index = RecordIndex()
    var start = byteOrderMark(bytes)
    var line = 1
    while start < bytes.count {
      let end = newline(in: bytes, from: start) ?? bytes.count
      let range = trimmed(bytes, start..<end)
      if range.count > limit { throw tooLong(path, line, limit) }
      if !range.isEmpty { index.records.append(.init(start: range.lowerBound, count: range.count, line: line)) }
      start = end + 1
      line += 1
    }
    return index
  }

  /// The elements of the array that the file is.
  static func arrayElements(
    of bytes: UnsafeRawBufferPointer, path: String, limit: Int = maximumRecordBytes
  ) throws(DatasetError) -> RecordIndex {
    var index = RecordIndex()
    var scanner = ArrayScanner(bytes: bytes, position: byteOrderMark(bytes))
    scanner.skipBlanks()
    scanner.position += 1  // the bracket
    scanner.skipBlanks()
    if scanner.byte == UInt8(ascii: "]") {
      scanner.position += 1
    } else {
      while true {
        let (start, line) = (scanner.position, scanner.line)
        guard scanner.skipValue() else { throw DatasetError(path: path, line: line, "the record has no end") }
        let count = scanner.position - start
        if count > limit { throw tooLong(path, line, limit) }
        if count == 0 { throw DatasetError(path: path, line: line, "a record is missing between commas") }
        index.records.append(.init(start: start, count: count, line: line))
        scanner.skipBlanks()
        let separator = scanner.byte
        scanner.position += 1
        if separator == UInt8(ascii: "]") { break }
        guard separator == UInt8(ascii: ",") else {
          throw DatasetError(
            path: path, line: scanner.line,
            separator == nil ? "the file ends before the array is closed" : "expected a comma between two records")
        }
        scanner.skipBlanks()
      }
    }
    scanner.skipBlanks()
    if scanner.byte != nil { throw DatasetError(path: path, line: scanner.line, "text after the end of the array") }
    return index
  }

  /// The first byte that is neither blank nor byte-order mark.
  static func firstByte(of bytes: UnsafeRawBufferPointer) -> UInt8? {
    var scanner = ArrayScanner(bytes: bytes, position: byteOrderMark(bytes))
    scanner.skipBlanks()
    return scanner.byte
  }

  /// The length of the byte-order mark, 3 or 0.
  static func byteOrderMark(_ bytes: UnsafeRawBufferPointer) -> Int { bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0 }

  private static func newline(in bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard let base = bytes.baseAddress, let found = memchr(base + start, 0x0A, bytes.count - start) else { return nil }
    return UnsafeRawPointer(found) - base
  }

  private static func trimmed(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> Range<Int> {
    var (start, end) = (range.lowerBound, range.upperBound)
    while start < end, isBlank(bytes[start]) { start += 1 }
    while end > start, isBlank(bytes[end - 1]) { end -= 1 }
    return start..<end
  }

  private static func tooLong(_ path: String, _ line: Int, _ limit: Int) -> DatasetError {
    DatasetError(path: path, line: line, "the record is longer than \(limit) bytes; split it, or use a .txt file")
  }
}

/// Goes over an array's elements by their brackets and quotes alone; the parser judges what is inside.
private struct ArrayScanner {
  let bytes: UnsafeRawBufferPointer
  var position: Int
  var line = 1

  var byte: UInt8? { position < bytes.count ? bytes[position] : nil }

  mutating func skipBlanks() {
    while position < bytes.count, isBlank(bytes[position]) {
      if bytes[position] == 0x0A { line += 1 }
      position += 1
    }
  }

  /// Moves behind the value that begins here; `false` when the file ends inside it.
  mutating func skipValue() -> Bool {
    var depth = 0
    while position < bytes.count {
      let byte = bytes[position]
      switch byte {
      case UInt8(ascii: "\""):
        guard skipString() else { return false }
        if depth == 0 { return true }
        continue
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        if depth == 0 { return true }
        depth -= 1
        if depth == 0 {
          position += 1
          return true
        }
      case UInt8(ascii: ","): if depth == 0 { return true }
      case 0x0A:
        if depth == 0 { return true }
        line += 1
      case 0x20, 0x09, 0x0D: if depth == 0 { return true }
      default: break
      }
      position += 1
    }
    return depth == 0
  }

  private mutating func skipString() -> Bool {
    position += 1
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      if byte == UInt8(ascii: "\"") { return true }
      if byte == UInt8(ascii: "\\") { position += 1 }
      if byte == 0x0A { line += 1 }
    }
    return false
  }
}

@inline(__always) private func isBlank(_ byte: UInt8) -> Bool {
  byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09
}
