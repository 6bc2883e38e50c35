import Glibc

/// How the records of a data file are told apart.
public enum RecordLayout: Sendable, Equatable {
  /// A JSON object on every line.
  case lines
  /// One JSON array of objects.
  case array
  /// Rows of fields with this byte between them; the first row has the names.
  case table(separator: UInt8)
  /// No records: one text.
  case document

  /// What people call it.
  public var description: String {
    switch self {
    case .lines: "JSONL"
    case .array: "JSON"
    case .table(let separator): separator == UInt8(ascii: "\t") ? "TSV" : "CSV"
    case .document: "text"
    }
  }
}

/// The bytes of one record, or of one piece of a text, and where it lies.
struct RawRecord: Sendable {
  var bytes: [UInt8]
  /// The line on which it begins, counted from 1.
  var line: Int
  /// Of a text's piece: whether it is the last.
  var isLast = true
}

/// Reads a file record by record: no more than one record of it is in memory.
final class RecordReader {
  /// Bytes of a record at most; beyond, a file is taken for something else than training data.
  static let maximumRecordBytes = 256 << 20
  /// Bytes of a text that are read, and tokenized, at once.
  static let pieceBytes = 4 << 20

  private let stream: ByteStream
  private let path: String
  private let layout: RecordLayout
  private let limit: Int
  private let pieceBytes: Int
  private var memory: UnsafeMutableRawBufferPointer
  /// The unread bytes in `memory`.
  private var start = 0
  private var end = 0
  /// Where the search for the record's end stands.
  private var position = 0
  private var line = 1
  private var isAtEnd = false
  private var isArrayOpen = false
  private var isArrayClosed = false

  /// Opens a file of a known layout.
  init(
    file: String, path: String, layout: RecordLayout, limit: Int = maximumRecordBytes, pieceBytes: Int = pieceBytes
  ) throws(DatasetError) {
    stream = try ByteStream(file: file, path: path)
    self.path = path
    self.layout = layout
    self.limit = limit
    self.pieceBytes = pieceBytes
    memory = .allocate(byteCount: 1 << 18, alignment: 16)
    while end < 3, try fill() {}
    if UnsafeRawBufferPointer(rebasing: memory[..<end]).starts(with: [0xEF, 0xBB, 0xBF]) { (start, position) = (3, 3) }
  }

  deinit { memory.deallocate() }

  /// The compression of the file.
  var compression: Compression { stream.compression }

  /// The first byte that is not blank, which stays unread; `nil` in an empty file.
  func firstByte() throws(DatasetError) -> UInt8? {
    var place = start
    while true {
      while place < end {
        if !isBlank(memory[place]) { return memory[place] }
        place += 1
      }
      let offset = place - start
      guard offset <= limit, try fill() else { return nil }
      place = start + offset
    }
  }

  /// The next record; `nil` at the end.
  func next() throws(DatasetError) -> RawRecord? {
    switch layout {
    case .lines: try nextLine()
    case .array: try nextElement()
    case .table: try nextRow()
    case .document: try nextPiece()
    }
  }

  // MARK: Lines

  private func nextLine() throws(DatasetError) -> RawRecord? {
    while let range = try takeLine() {
      let number = line
      line += 1
      let record = trimmed(range)
      if record.count > limit { throw tooLong(number) }
      if !record.isEmpty { return RawRecord(bytes: Array(memory[record]), line: number) }
    }
    return nil
  }

  /// The bytes up to the next line break, which is left out.
  private func takeLine() throws(DatasetError) -> Range<Int>? {
    position = start
    while true {
      if let base = memory.baseAddress, let found = memchr(base + position, 0x0A, end - position) {
        let newline = UnsafeRawPointer(found) - UnsafeRawPointer(base)
        defer { start = newline + 1 }
        return start..<newline
      }
      position = end
      // Blanks before and after a record do not count.
      if end - start > limit + 4096 { throw tooLong(line) }
      guard try fill() else {
        defer { start = end }
        return start < end ? start..<end : nil
      }
    }
  }

  private func trimmed(_ range: Range<Int>) -> Range<Int> {
    var (first, last) = (range.lowerBound, range.upperBound)
    while first < last, isBlank(memory[first]) { first += 1 }
    while last > first, isBlank(memory[last - 1]) { last -= 1 }
    return first..<last
  }

  // MARK: Elements of an array

  private func nextElement() throws(DatasetError) -> RawRecord? {
    if isArrayClosed { return nil }
    position = start
    try skipBlanks()
    if !isArrayOpen {
      position += 1  // the bracket
      isArrayOpen = true
      try skipBlanks()
      if try byte() == UInt8(ascii: "]") { return try closeArray() }
    } else {
      switch try byte() {
      case UInt8(ascii: "]"): return try closeArray()
      case UInt8(ascii: ","): position += 1
      case nil: throw DatasetError(path: path, line: line, "the file ends before the array is closed")
      default: throw DatasetError(path: path, line: line, "expected a comma between two records")
      }
      try skipBlanks()
    }
    start = position
    let first = line
    guard try skipValue(from: first) else { throw DatasetError(path: path, line: first, "the record has no end") }
    if position == start { throw DatasetError(path: path, line: first, "a record is missing between commas") }
    if position - start > limit { throw tooLong(first) }
    defer { start = position }
    return RawRecord(bytes: Array(memory[start..<position]), line: first)
  }

  private func closeArray() throws(DatasetError) -> RawRecord? {
    position += 1
    isArrayClosed = true
    try skipBlanks()
    if try byte() != nil { throw DatasetError(path: path, line: line, "text after the end of the array") }
    return nil
  }

  private func byte() throws(DatasetError) -> UInt8? {
    if position == end { guard try fill() else { return nil } }
    return memory[position]
  }

  /// Moves over blanks, which are let go of.
  private func skipBlanks() throws(DatasetError) {
    while true {
      while position < end, isBlank(memory[position]) {
        if memory[position] == 0x0A { line += 1 }
        position += 1
      }
      start = position
      guard position == end, try fill() else { return }
    }
  }

  /// Moves behind the value that begins here, by its brackets and quotes alone; `false` when the file ends inside it.
  private func skipValue(from first: Int) throws(DatasetError) -> Bool {
    var depth = 0
    var inString = false
    var isEscaped = false
    while true {
      while position < end {
        let byte = memory[position]
        if inString {
          if isEscaped {
            isEscaped = false
          } else if byte == UInt8(ascii: "\\") {
            isEscaped = true
          } else if byte == UInt8(ascii: "\"") {
            inString = false
            if depth == 0 {
              position += 1
              return true
            }
          }
          if byte == 0x0A { line += 1 }
          position += 1
          continue
        }
        switch byte {
        case UInt8(ascii: "\""): inString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
          if depth == 0 { return true }
          depth -= 1
          if depth == 0 {
            position += 1
            return true
          }
        case UInt8(ascii: ","), 0x20, 0x09, 0x0D: if depth == 0 { return true }
        case 0x0A:
          if depth == 0 { return true }
          line += 1
        default: break
        }
        position += 1
      }
      if position - start > limit { throw tooLong(first) }
      guard try fill() else { return depth == 0 && !inString }
    }
  }

  // MARK: Rows of a table

  private func nextRow() throws(DatasetError) -> RawRecord? {
    position = start
    let first = line
    var isQuoted = false
    while true {
      while position < end {
        let byte = memory[position]
        position += 1
        if byte == UInt8(ascii: "\"") {
          isQuoted.toggle()
        } else if byte == 0x0A {
          line += 1
          if isQuoted { continue }
          let row = RawRecord(bytes: row(start..<position - 1), line: first)
          start = position
          return row.bytes.isEmpty ? try nextRow() : row
        }
      }
      if end - start > limit { throw tooLong(first) }
      guard try fill() else { break }
    }
    if isQuoted { throw DatasetError(path: path, line: first, "a quoted field has no end") }
    let row = RawRecord(bytes: row(start..<end), line: first)
    start = end
    return row.bytes.isEmpty ? nil : row
  }

  private func row(_ range: Range<Int>) -> [UInt8] {
    let hasReturn = !range.isEmpty && memory[range.upperBound - 1] == 0x0D
    return Array(memory[range.lowerBound..<range.upperBound - (hasReturn ? 1 : 0)])
  }

  // MARK: Pieces of a text

  private func nextPiece() throws(DatasetError) -> RawRecord? {
    while end - start < pieceBytes, try fill() {}
    if start == end { return nil }
    var cut = min(end, start + pieceBytes)
    if cut < end || !isAtEnd {
      // At the end of a line; else between two characters.
      if let newline = memory[start..<cut].lastIndex(of: 0x0A), newline > start {
        cut = newline + 1
      } else {
        while cut > start + 1, cut < end, memory[cut] & 0xC0 == 0x80 { cut -= 1 }
      }
    }
    // More may be there than was asked for: only at the end is nothing left.
    if cut == end {
      let count = cut - start
      _ = try fill()
      cut = start + count
    }
    let piece = RawRecord(bytes: Array(memory[start..<cut]), line: line, isLast: cut == end && isAtEnd)
    line += piece.bytes.count { $0 == 0x0A }
    start = cut
    position = cut
    return piece
  }

  // MARK: Memory

  /// Reads more behind `end`, giving up what lies before `start`; `false` at the end of the file.
  private func fill() throws(DatasetError) -> Bool {
    if isAtEnd { return false }
    if start > 0 {
      if start < end, let base = memory.baseAddress { memmove(base, base + start, end - start) }
      position -= start
      end -= start
      start = 0
    }
    if end == memory.count {
      let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: memory.count * 2, alignment: 16)
      larger.copyMemory(from: UnsafeRawBufferPointer(memory))
      memory.deallocate()
      memory = larger
    }
    let count = try stream.read(into: UnsafeMutableRawBufferPointer(rebasing: memory[end...]))
    if count == 0 { isAtEnd = true }
    end += count
    return count > 0
  }

  private func tooLong(_ line: Int) -> DatasetError {
    DatasetError(path: path, line: line, "the record is longer than \(limit) bytes; split it, or use a .txt file")
  }
}

@inline(__always) private func isBlank(_ byte: UInt8) -> Bool {
  byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09
}
