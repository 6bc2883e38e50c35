/// Cuts a line into shorter ones as Python's `textwrap` does.
struct WordWrapper {
  let width: Int
  let breaksLongWords: Bool
  let breaksOnHyphens: Bool
  /// Counts a step of work; throws where there is no more of it.
  let charge: () throws -> Void

  /// `textwrap` knows only ASCII's white space.
  private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    (0x09...0x0D).contains(scalar.value) || scalar == " "
  }

  private static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
    PythonText.isWord(scalar) && scalar.properties.numericType != .decimal
  }

  private static func mayPrecedeDash(_ scalar: Unicode.Scalar) -> Bool {
    PythonText.isWord(scalar) || "!\"'&.,?".unicodeScalars.contains(scalar)
  }

  /// The lines of one line without line breaks.
  func lines(of text: String) throws -> [String] {
    var chunks = Array(try chunks(of: Array(text.unicodeScalars)).reversed())
    var lines: [String] = []
    func isBlank(_ chunk: ArraySlice<Unicode.Scalar>) -> Bool { chunk.allSatisfy(PythonText.isSpace) }
    while !chunks.isEmpty {
      try charge()
      var line: [ArraySlice<Unicode.Scalar>] = []
      var length = 0
      if let last = chunks.last, isBlank(last), !lines.isEmpty { chunks.removeLast() }
      while let chunk = chunks.last, length + chunk.count <= width {
        length += chunk.count
        line.append(chunks.removeLast())
      }
      if let chunk = chunks.last, chunk.count > width { breakWord(chunk, &chunks, &line, length) }
      if let last = line.last, isBlank(last) { line.removeLast() }
      if !line.isEmpty { lines.append(PythonText.string(line.joined())) }
    }
    return lines
  }

  private func breakWord(
    _ chunk: ArraySlice<Unicode.Scalar>, _ chunks: inout [ArraySlice<Unicode.Scalar>],
    _ line: inout [ArraySlice<Unicode.Scalar>], _ length: Int
  ) {
    guard breaksLongWords else {
      // A word of its own line.
      if line.isEmpty { line.append(chunks.removeLast()) }
      return
    }
    let room = width < 1 ? 1 : width - length
    var end = room
    if breaksOnHyphens, chunk.count > room {
      let place = chunk.prefix(room).lastIndex(of: "-")
      if let place, place > chunk.startIndex, chunk[..<place].contains(where: { $0 != "-" }) {
        end = place + 1 - chunk.startIndex
      }
    }
    line.append(chunk.prefix(end))
    chunks[chunks.count - 1] = chunk.dropFirst(end)
    // An empty rest is taken at once by the next line.
  }

  /// Words and the white space between them; hyphens and dashes end words.
  private func chunks(of text: [Unicode.Scalar]) throws -> [ArraySlice<Unicode.Scalar>] {
    var result: [ArraySlice<Unicode.Scalar>] = []
    var start = 0
    while start < text.count {
      try charge()
      let end = endOfChunk(text, start)
      result.append(text[start..<end])
      start = end
    }
    return result
  }

  private func endOfChunk(_ text: [Unicode.Scalar], _ start: Int) -> Int {
    if Self.isSpace(text[start]) { return text[start...].firstIndex { !Self.isSpace($0) } ?? text.count }
    guard breaksOnHyphens else { return text[start...].firstIndex(where: Self.isSpace) ?? text.count }
    if start > 0, Self.mayPrecedeDash(text[start - 1]), let end = endOfDash(text, start) { return end }
    var end = start + 1
    while end < text.count, !Self.isSpace(text[end]) {
      if text[end] == "-", isHyphen(text, end) { return end + 1 }
      if Self.mayPrecedeDash(text[end - 1]), endOfDash(text, end) != nil { return end }
      end += 1
    }
    return end
  }

  /// Where two or more hyphens end that a word follows.
  private func endOfDash(_ text: [Unicode.Scalar], _ start: Int) -> Int? {
    guard text[start] == "-", let end = text[start...].firstIndex(where: { $0 != "-" }), end - start >= 2,
      PythonText.isWord(text[end])
    else { return nil }
    return end
  }

  /// Whether the hyphen at `place` stands between letters.
  private func isHyphen(_ text: [Unicode.Scalar], _ place: Int) -> Bool {
    func letter(_ index: Int) -> Bool { text.indices.contains(index) && Self.isLetter(text[index]) }
    guard letter(place - 1), letter(place - 2) || (place >= 3 && text[place - 2] == "-" && letter(place - 3)) else {
      return false
    }
    guard letter(place + 1) else { return false }
    return letter(place + 2) || (place + 2 < text.count && text[place + 2] == "-" && letter(place + 3))
  }
}
