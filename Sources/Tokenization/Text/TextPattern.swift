import JSONValues

/// What a text is searched for: a string as it stands, or a regular expression.
enum TextPattern: Sendable {
  case literal([UInt8])
  case expression(RegularExpression)

  /// Reads `{"String": …}`, `{"Regex": …}` or a plain string.
  init(_ value: JSONValue?, at place: String) throws(TokenizationError) {
    if let text = value?.string ?? value?["String"]?.string {
      self = .literal(Array(text.utf8))
    } else if let pattern = value?["Regex"]?.string {
      do {
        self = .expression(try RegularExpression(pattern))
      } catch {
        throw TokenizationError("\(place): \(error)")
      }
    } else {
      throw TokenizationError("\(place): the pattern must be {\"String\": …} or {\"Regex\": …}")
    }
  }

  /// Calls `body` for each match and each gap between matches of `range`, from left to right.
  func forEach(
    in base: UnsafePointer<UInt8>, _ range: Range<Int>, _ body: (_ range: Range<Int>, _ isMatch: Bool) -> Void
  ) {
    let text = base + range.lowerBound
    let count = range.count
    func report(_ start: Int, _ end: Int, _ isMatch: Bool) {
      body(range.lowerBound + start..<range.lowerBound + end, isMatch)
    }
    var done = 0
    switch self {
    case .literal(let needle):
      guard let first = needle.first else { break }
      var index = 0
      while index + needle.count <= count {
        guard text[index] == first, (1..<needle.count).allSatisfy({ text[index + $0] == needle[$0] }) else {
          index += 1
          continue
        }
        if done < index { report(done, index, false) }
        index += needle.count
        report(index - needle.count, index, true)
        done = index
      }
    case .expression(let expression):
      let matcher = Matcher(expression)
      var position = 0
      while position <= count, let match = matcher.next(in: text, count: count, from: position) {
        if match.end == match.start {
          // An empty match cuts between two characters, and the search goes on after the next one.
          if match.start > done || (match.start == done && done == 0) {
            if done < match.start { report(done, match.start, false) }
            report(match.start, match.start, true)
            done = match.start
          }
          guard match.start < count else { break }
          position = match.start + UTF8Bytes.length(text[match.start])
          continue
        }
        if done < match.start { report(done, match.start, false) }
        report(match.start, match.end, true)
        done = match.end
        position = match.end
      }
    }
    if done < count { report(done, count, false) }
  }
}
