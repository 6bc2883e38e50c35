/// Where the texts and outputs of a template lie in its source, for who edits it.
package struct TemplateSource {
  /// A text that the template writes: one between tags, or a string within a tag.
  package struct Literal {
    /// The quote around it; `nil` for text between tags.
    package var quote: Character?
    /// What it stands for.
    package var value: [UInt8]
    /// For each byte of the value and for its end, its place in the source; -1 within an escape.
    package var places: [Int]
    /// With its quotes.
    package var range: Range<Int>

    /// Where the last bytes of the value lie in the source; `nil` when they begin within an escape.
    package func range(ofLast count: Int) -> Range<Int>? {
      guard count <= value.count, let end = places.last, places[value.count - count] >= 0 else { return nil }
      return places[value.count - count]..<end
    }
  }

  /// A `{{ … }}`.
  package struct Output {
    /// From the first brace to after the last.
    package var range: Range<Int>
    /// Whether it takes the white space before it (`{{-`).
    package var takesSpaceBefore: Bool
  }

  /// The texts, in the order of the source.
  package private(set) var literals: [Literal] = []
  /// The outputs, in the order of the source.
  package private(set) var outputs: [Output] = []

  /// Reads a template's tags; `nil` when it cannot be read.
  ///
  /// Places count the source's UTF-8.
  package init?(_ source: String) {
    let scalars = Array(source.unicodeScalars)
    // The lexer counts line ends in its own way.
    guard !scalars.contains("\r"), let tokens = try? Lexer.tokenize(source) else { return nil }
    var offsets = [0]
    for scalar in scalars { offsets.append(offsets[offsets.count - 1] + String(scalar).utf8.count) }
    var lines = [0]
    for (index, scalar) in scalars.enumerated() where scalar == "\n" { lines.append(index + 1) }
    func index(_ location: SourceLocation) -> Int? {
      guard lines.indices.contains(location.line - 1) else { return nil }
      let index = lines[location.line - 1] + location.column - 1
      return index <= scalars.count ? index : nil
    }
    var opened: Int?
    for token in tokens {
      guard let start = index(token.location) else { continue }
      switch token.kind {
      case .data(let text): literals.append(contentsOf: Self.data(text, at: start, scalars, offsets))
      case .string(let text): literals.append(contentsOf: Self.string(text, at: start, scalars, offsets))
      case .variableBegin: opened = start
      case .variableEnd:
        guard let begin = opened else { continue }
        let end = min(scalars.count, start + (start < scalars.count && scalars[start] == "-" ? 3 : 2))
        let takesSpace = begin + 2 < scalars.count && scalars[begin + 2] == "-"
        outputs.append(Output(range: offsets[begin]..<offsets[end], takesSpaceBefore: takesSpace))
        opened = nil
      default: break
      }
    }
  }

  private static func data(_ text: String, at start: Int, _ scalars: [Unicode.Scalar], _ offsets: [Int]) -> [Literal] {
    let count = text.unicodeScalars.count
    guard start + count <= scalars.count, text.unicodeScalars.elementsEqual(scalars[start..<start + count]) else {
      return []
    }
    let range = offsets[start]..<offsets[start + count]
    return [Literal(quote: nil, value: Array(text.utf8), places: Array(range) + [range.upperBound], range: range)]
  }

  private static func string(
    _ text: String, at start: Int, _ scalars: [Unicode.Scalar], _ offsets: [Int]
  ) -> [Literal] {
    guard start < scalars.count, scalars[start] == "'" || scalars[start] == "\"" else { return [] }
    let quote = scalars[start]
    var rest = text.unicodeScalars[...]
    var places: [Int] = []
    var index = start + 1
    while index < scalars.count, scalars[index] != quote {
      // How many characters of the source make how many of the value.
      var (length, made) = (1, 1)
      if scalars[index] == "\\", index + 1 < scalars.count {
        switch scalars[index + 1] {
        case "x": length = 4
        case "u": length = 6
        case "U": length = 10
        case "\n": (length, made) = (2, 0)
        case "n", "t", "r", "a", "b", "f", "v", "\\", "'", "\"": length = 2
        case "0"..."7": return []
        default: made = 1
        }
      }
      for _ in 0..<made {
        guard let scalar = rest.popFirst() else { return [] }
        if length == 1, scalar != scalars[index] { return [] }
        let count = String(scalar).utf8.count
        places += [offsets[index]] + Array(repeating: -1, count: count - 1)
      }
      index += length
    }
    guard rest.isEmpty, index < scalars.count else { return [] }
    places.append(offsets[index])
    return [
      Literal(
        quote: Character(quote), value: Array(text.utf8), places: places, range: offsets[start]..<offsets[index + 1])
    ]
  }
}
