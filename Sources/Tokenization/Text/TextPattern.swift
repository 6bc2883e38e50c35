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
    forEach(in: base, CollectionOfOne(range), begin: { _ in }, body)
  }

  /// Calls `body` for each match and gap of each range, and `begin` before those of each.
  @inline(__always)
  func forEach(
    in base: UnsafePointer<UInt8>, _ ranges: some Sequence<Range<Int>>, begin: (Range<Int>) -> Void,
    _ body: (_ range: Range<Int>, _ isMatch: Bool) -> Void
  ) {
    switch self {
    case .literal(let needle):
      for range in ranges {
        begin(range)
        Self.search(needle, base, range, body)
      }
    case .expression(let expression):
      let matcher = Matcher(expression)
      for range in ranges {
        begin(range)
        Self.search(matcher, base, range, body)
      }
    }
  }

  private static func search(
    _ needle: [UInt8], _ base: UnsafePointer<UInt8>, _ range: Range<Int>, _ body: (Range<Int>, Bool) -> Void
  ) {
    var done = range.lowerBound
    var index = range.lowerBound
    if let first = needle.first {
      while index + needle.count <= range.upperBound {
        guard base[index] == first, (1..<needle.count).allSatisfy({ base[index + $0] == needle[$0] }) else {
          index += 1
          continue
        }
        if done < index { body(done..<index, false) }
        body(index..<index + needle.count, true)
        index += needle.count
        done = index
      }
    }
    if done < range.upperBound { body(done..<range.upperBound, false) }
  }

  @inline(__always)
  private static func search(
    _ matcher: borrowing Matcher, _ base: UnsafePointer<UInt8>, _ range: Range<Int>,
    _ body: (Range<Int>, Bool) -> Void
  ) {
    // A range is searched as a text of its own: nothing beyond its ends is seen.
    let text = base + range.lowerBound
    let (offset, count) = (range.lowerBound, range.count)
    var done = 0
    var position = 0
    while position <= count, let match = matcher.next(in: text, count: count, from: position) {
      if match.end == match.start {
        // An empty match cuts between two characters, and the search goes on after the next one.
        if match.start > done || (match.start == done && done == 0) {
          if done < match.start { body(offset + done..<offset + match.start, false) }
          body(offset + match.start..<offset + match.start, true)
          done = match.start
        }
        guard match.start < count else { break }
        position = match.start + UTF8Bytes.length(text[match.start])
        continue
      }
      if done < match.start { body(offset + done..<offset + match.start, false) }
      body(offset + match.start..<offset + match.end, true)
      done = match.end
      position = match.end
    }
    if done < count { body(offset + done..<offset + count, false) }
  }
}
