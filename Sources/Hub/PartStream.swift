/// The bytes of one part as they come in; of the whole file where the server knows no ranges.
final class PartStream {
  private let file: PartialFile
  private let name: String
  private var part: Int
  private var first: Int
  /// The next byte to be written.
  private var position: Int
  /// Bytes of a whole-file answer that have passed.
  private var passed = 0
  /// Whether this stream takes the whole file, because the server sends nothing less.
  private var isSerial = false

  /// Another stream takes the whole file.
  private(set) var isSomebodyElses = false
  /// All that this stream was to bring is written.
  private(set) var isDone = false
  /// Why it cannot go on.
  private(set) var error: (any Error)?

  init(_ file: PartialFile, part: Int, name: String) {
    self.file = file
    self.part = part
    self.name = name
    first = file.range(of: part).lowerBound
    position = first
  }

  /// Bytes that were written.
  var progress: Int { position - first }

  /// The bytes to ask for; nil: all.
  var wanted: ClosedRange<Int>? {
    let range = file.range(of: part)
    return isSerial || (position == 0 && range.count == file.file.size) ? nil : position...range.upperBound - 1
  }

  var wantsMore: Bool { error == nil && !isSomebodyElses }

  /// A new request: a whole-file answer begins at byte 0 again.
  func begin() { passed = 0 }

  /// Takes the next bytes of an answer; returns how many were new.
  func take(_ bytes: UnsafeRawBufferPointer, _ answer: HTTPSession.Answer) -> Int {
    do {
      switch answer.status {
      case 206: return try takePart(bytes, answer)
      case 200: return try takeWhole(bytes)
      // An error's page is no part of the file.
      default: return 0
      }
    } catch {
      self.error = error
      return 0
    }
  }

  private func takePart(_ bytes: UnsafeRawBufferPointer, _ answer: HTTPSession.Answer) throws -> Int {
    if passed == 0, let (start, total) = answer.contentRange {
      guard start == position else {
        throw HubError("\(name): the server sends from byte \(start) where \(position) was asked")
      }
      if let total, total != file.file.size { throw wrongSize(total) }
    }
    let end = file.range(of: part).upperBound
    guard bytes.count <= end - position else { throw HubError("\(name): the server sends more bytes than asked for") }
    passed += bytes.count
    return try append(bytes, end: end)
  }

  /// Bytes from the file's beginning on, of which those before `position` are known.
  private func takeWhole(_ bytes: UnsafeRawBufferPointer) throws -> Int {
    if file.partCount > 1, !isSerial {
      guard file.claimSerial() else {
        isSomebodyElses = true
        return 0
      }
      isSerial = true
      part = file.missing.first ?? 0
      first = file.range(of: part).lowerBound
      position = first
    }
    let start = passed
    passed += bytes.count
    guard passed <= file.file.size else { throw wrongSize(passed, "at least ") }
    let known = max(0, min(bytes.count, position - start))
    return try append(UnsafeRawBufferPointer(rebasing: bytes[known...]), end: file.file.size)
  }

  /// Writes bytes at `position` and notes the parts that they complete.
  private func append(_ bytes: UnsafeRawBufferPointer, end: Int) throws -> Int {
    try file.write(bytes, at: position)
    position += bytes.count
    while part < file.partCount, position >= file.range(of: part).upperBound {
      if !file.isDone(part) { try file.markDone(part) }
      part += 1
    }
    // `part` stays a part of the file for `wanted`.
    part = min(part, file.partCount - 1)
    isDone = position == end
    return bytes.count
  }

  private func wrongSize(_ count: Int, _ atLeast: String = "") -> HubError {
    HubError("\(name): the server has \(atLeast)\(count) bytes, the hub's listing says \(file.file.size)")
  }
}
