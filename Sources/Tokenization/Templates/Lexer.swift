/// Cuts a template into tokens, and applies its rules of white space.
///
/// The rules are those of Jinja with `trim_blocks` and `lstrip_blocks`, which is how chat templates are written: the
/// newline after a block and the blanks before it on its line go, unless `+` keeps them; `-` takes all white space.
struct Lexer {
  private let source: [Unicode.Scalar]
  private let lineStarts: [Int]
  private var position = 0
  private var tokens: [Token] = []
  /// Whether the match before ended in a newline (or nothing came before).
  private var isLineStart = true

  /// The tokens of a template.
  static func tokenize(_ text: String) throws(TemplateError) -> [Token] {
    var lexer = Lexer(text)
    try lexer.run()
    return lexer.tokens
  }

  private init(_ text: String) {
    var source: [Unicode.Scalar] = []
    source.reserveCapacity(text.utf8.count)
    var afterReturn = false
    for scalar in text.unicodeScalars {
      if scalar == "\n", afterReturn {
        afterReturn = false
        continue
      }
      afterReturn = scalar == "\r"
      source.append(afterReturn ? "\n" : scalar)
    }
    if source.last == "\n" { source.removeLast() }
    self.source = source
    lineStarts = [0] + source.indices.filter { source[$0] == "\n" }.map { $0 + 1 }
  }

  private func location(_ offset: Int) -> SourceLocation {
    var (low, high) = (0, lineStarts.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if lineStarts[middle] <= offset { low = middle } else { high = middle }
    }
    return SourceLocation(line: low + 1, column: offset - lineStarts[low] + 1)
  }

  private mutating func add(_ kind: Token.Kind, at offset: Int) {
    tokens.append(Token(kind: kind, location: location(offset)))
  }

  private func error(_ message: String, at offset: Int) -> TemplateError {
    TemplateError(message, at: location(offset))
  }

  private func has(_ text: String, at offset: Int) -> Bool {
    var index = offset
    for scalar in text.unicodeScalars {
      guard index < source.count, source[index] == scalar else { return false }
      index += 1
    }
    return true
  }

  private func skippingSpace(_ offset: Int) -> Int {
    var offset = offset
    while offset < source.count, PythonText.isSpace(source[offset]) { offset += 1 }
    return offset
  }

  // MARK: Text between tags

  private mutating func run() throws(TemplateError) {
    while position < source.count {
      guard let start = nextTag(from: position) else {
        addData(position..<source.count)
        position = source.count
        break
      }
      let opener = source[start + 1]
      let sign = start + 2 < source.count ? source[start + 2] : " "
      addData(stripped(position..<start, sign: sign, isVariable: opener == "{"))
      if opener == "%", let begin = rawBegin(at: start) {
        isLineStart = source[begin - 1] == "\n"
        position = begin
        try lexRaw(openedAt: start)
        continue
      }
      position = start + 2 + (sign == "-" || sign == "+" ? 1 : 0)
      isLineStart = false
      switch opener {
      case "#": try lexComment(openedAt: start)
      case "%":
        add(.blockBegin, at: start)
        try lexTag(openedAt: start, isBlock: true)
      default:
        add(.variableBegin, at: start)
        try lexTag(openedAt: start, isBlock: false)
      }
    }
    add(.end, at: source.count)
  }

  private func nextTag(from offset: Int) -> Int? {
    var index = offset
    while index + 1 < source.count {
      if source[index] == "{", source[index + 1] == "%" || source[index + 1] == "{" || source[index + 1] == "#" {
        return index
      }
      index += 1
    }
    return nil
  }

  private mutating func addData(_ range: Range<Int>) {
    guard !range.isEmpty else { return }
    var text = ""
    text.unicodeScalars.append(contentsOf: source[range])
    add(.data(text), at: range.lowerBound)
  }

  /// The text before a tag without the white space that the tag takes.
  private func stripped(_ range: Range<Int>, sign: Unicode.Scalar, isVariable: Bool) -> Range<Int> {
    if sign == "-" {
      var end = range.upperBound
      while end > range.lowerBound, PythonText.isSpace(source[end - 1]) { end -= 1 }
      return range.lowerBound..<end
    }
    guard sign != "+", !isVariable else { return range }
    var start = range.upperBound
    while start > range.lowerBound, source[start - 1] != "\n" { start -= 1 }
    guard start > range.lowerBound || isLineStart else { return range }
    return source[start..<range.upperBound].allSatisfy(PythonText.isSpace) ? range.lowerBound..<start : range
  }

  /// Where the text of a raw block starts, if the tag at `start` opens one.
  private func rawBegin(at start: Int) -> Int? {
    var index = start + 2
    if has("-", at: index) || has("+", at: index) { index += 1 }
    index = skippingSpace(index)
    guard has("raw", at: index) else { return nil }
    index = skippingSpace(index + 3)
    if has("-%}", at: index) { return skippingSpace(index + 3) }
    return has("%}", at: index) ? index + 2 : nil
  }

  private mutating func lexRaw(openedAt start: Int) throws(TemplateError) {
    if position == source.count { return }
    var index = position
    while index < source.count {
      guard has("{%", at: index) else {
        index += 1
        continue
      }
      let sign = index + 2 < source.count ? source[index + 2] : " "
      var end = skippingSpace(index + (sign == "-" || sign == "+" ? 3 : 2))
      guard has("endraw", at: end) else {
        index += 1
        continue
      }
      end = skippingSpace(end + 6)
      guard let after = tagEnd(at: end, "%}", trimsNewline: true) else {
        index += 1
        continue
      }
      addData(stripped(position..<index, sign: sign, isVariable: false))
      isLineStart = source[after - 1] == "\n"
      position = after
      return
    }
    throw error("the raw block is never closed", at: start)
  }

  /// Where the text goes on after a tag's end, if there is one here.
  private func tagEnd(at index: Int, _ closer: String, trimsNewline: Bool) -> Int? {
    if has(closer, at: index) {
      let end = index + 2
      return trimsNewline && end < source.count && source[end] == "\n" ? end + 1 : end
    }
    if has("-" + closer, at: index) { return skippingSpace(index + 3) }
    if trimsNewline, has("+" + closer, at: index) { return index + 3 }
    return nil
  }

  private mutating func lexComment(openedAt start: Int) throws(TemplateError) {
    // As in Jinja, a comment that begins with the template's last characters is none.
    if position == source.count { return }
    var index = position
    while index < source.count {
      if let end = tagEnd(at: index, "#}", trimsNewline: true) {
        isLineStart = source[end - 1] == "\n"
        position = end
        return
      }
      index += 1
    }
    throw error("the comment is never closed", at: start)
  }

  // MARK: Inside tags

  private mutating func lexTag(openedAt start: Int, isBlock: Bool) throws(TemplateError) {
    var brackets: [Unicode.Scalar] = []
    while position < source.count {
      if brackets.isEmpty, let end = tagEnd(at: position, isBlock ? "%}" : "}}", trimsNewline: isBlock) {
        add(isBlock ? .blockEnd : .variableEnd, at: position)
        isLineStart = source[end - 1] == "\n"
        position = end
        return
      }
      let scalar = source[position]
      if PythonText.isSpace(scalar) {
        position += 1
      } else if scalar.value < 0x80, scalar.value >= 0x30, scalar.value <= 0x39 {
        try lexNumber()
      } else if scalar == "'" || scalar == "\"" {
        try lexString(quote: scalar)
      } else if scalar == "_" || scalar.properties.isXIDStart {
        let begin = position
        while position < source.count, source[position] == "_" || source[position].properties.isXIDContinue {
          position += 1
        }
        var name = ""
        name.unicodeScalars.append(contentsOf: source[begin..<position])
        add(.name(name), at: begin)
      } else {
        try lexSymbol(&brackets)
      }
    }
    throw error("the \(isBlock ? "block" : "expression") is never closed", at: start)
  }

  private mutating func lexSymbol(_ brackets: inout [Unicode.Scalar]) throws(TemplateError) {
    let scalar = source[position]
    var text = String(scalar)
    if position + 1 < source.count, let _ = Token.Symbol(rawValue: text + String(source[position + 1])) {
      text += String(source[position + 1])
    }
    guard let symbol = Token.Symbol(rawValue: text) else {
      throw error("unexpected character \(PythonText.repr(String(scalar)))", at: position)
    }
    switch scalar {
    case "(": brackets.append(")")
    case "[": brackets.append("]")
    case "{": brackets.append("}")
    case ")", "]", "}":
      guard let expected = brackets.popLast() else { throw error("unexpected '\(scalar)'", at: position) }
      guard expected == scalar else { throw error("unexpected '\(scalar)', expected '\(expected)'", at: position) }
    default: break
    }
    add(.symbol(symbol), at: position)
    position += text.unicodeScalars.count
  }

  private func digits(from index: Int, radix: Int = 10) -> Int {
    var end = index
    while end < source.count {
      if let _ = Int(String(source[end]), radix: radix), source[end].isASCII {
        end += 1
      } else if source[end] == "_", end > index, end + 1 < source.count, source[end + 1].isASCII,
        Int(String(source[end + 1]), radix: radix) != nil
      {
        end += 1
      } else {
        break
      }
    }
    return end
  }

  private mutating func lexNumber() throws(TemplateError) {
    let begin = position
    func text(_ range: Range<Int>) -> String {
      var text = ""
      text.unicodeScalars.append(contentsOf: source[range].filter { $0 != "_" })
      return text
    }
    if source[begin] == "0", begin + 1 < source.count,
      let radix = ["x": 16, "X": 16, "o": 8, "O": 8, "b": 2, "B": 2][source[begin + 1]]
    {
      let first = has("_", at: begin + 2) ? begin + 3 : begin + 2
      let end = digits(from: first, radix: radix)
      if end > first {
        position = end
        return try addInteger(text(begin + 2..<end), radix: radix, at: begin)
      }
    }
    // A number that starts with 0 is 0 itself: what follows is another.
    var end = source[begin] == "0" ? begin + 1 : digits(from: begin)
    while source[begin] == "0", end < source.count, source[end] == "0" || (source[end] == "_" && has("0", at: end + 1))
    {
      end += source[end] == "0" ? 1 : 2
    }
    let wholeEnd = end
    end = digits(from: begin)
    var isFloat = false
    if end + 1 < source.count, source[end] == ".", digits(from: end + 1) > end + 1,
      begin == 0 || source[begin - 1] != "."
    {
      end = digits(from: end + 1)
      isFloat = true
    }
    if end < source.count, source[end] == "e" || source[end] == "E" {
      var exponent = end + 1
      if has("+", at: exponent) || has("-", at: exponent) { exponent += 1 }
      let exponentEnd = digits(from: exponent)
      if exponentEnd > exponent {
        end = exponentEnd
        isFloat = true
      }
    }
    position = end
    if isFloat {
      guard let value = Double(text(begin..<end)) else { throw error("this is no number", at: begin) }
      add(.float(value), at: begin)
    } else {
      position = wholeEnd
      try addInteger(text(begin..<wholeEnd), radix: 10, at: begin)
    }
  }

  private mutating func addInteger(_ digits: String, radix: Int, at begin: Int) throws(TemplateError) {
    if let value = Int(digits, radix: radix) { return add(.integer(value), at: begin) }
    guard digits.utf8.count <= 4300, let value = BigInteger(digits, radix: UInt32(radix)) else {
      throw error("the number is too large", at: begin)
    }
    add(.big(value), at: begin)
  }

  private mutating func lexString(quote: Unicode.Scalar) throws(TemplateError) {
    let begin = position
    var text = String.UnicodeScalarView()
    position += 1
    while position < source.count {
      let scalar = source[position]
      position += 1
      if scalar == quote {
        return add(.string(String(text)), at: begin)
      }
      guard scalar == "\\", position < source.count else {
        text.append(scalar)
        continue
      }
      try lexEscape(&text)
    }
    throw error("the string is never closed", at: begin)
  }

  private mutating func lexEscape(_ text: inout String.UnicodeScalarView) throws(TemplateError) {
    let begin = position - 1
    let scalar = source[position]
    position += 1
    func number(_ count: Int) throws(TemplateError) -> Unicode.Scalar {
      let digits = source[min(position, source.count)..<min(position + count, source.count)]
      guard digits.count == count, let value = UInt32(String(String.UnicodeScalarView(digits)), radix: 16),
        let result = Unicode.Scalar(value)
      else { throw error("this escape is no character", at: begin) }
      return result
    }
    switch scalar {
    case "n": text.append("\n")
    case "t": text.append("\t")
    case "r": text.append("\r")
    case "a": text.append("\u{07}")
    case "b": text.append("\u{08}")
    case "f": text.append("\u{0C}")
    case "v": text.append("\u{0B}")
    case "\\", "'", "\"": text.append(scalar)
    case "\n": break
    case "x":
      text.append(try number(2))
      position += 2
    case "u":
      text.append(try number(4))
      position += 4
    case "U":
      text.append(try number(8))
      position += 8
    case "0"..."7":
      var value = scalar.value - 0x30
      var count = 1
      while count < 3, position < source.count, ("0"..."7").contains(source[position]) {
        value = value * 8 + source[position].value - 0x30
        position += 1
        count += 1
      }
      if let character = Unicode.Scalar(value) { text.append(character) }
    case "N": throw error("characters by their names are not known; write \\u and four digits", at: begin)
    default:
      text.append("\\")
      if scalar.isASCII { return text.append(scalar) }
      // Python escapes what is not ASCII before it looks at escapes, so that this one is taken apart.
      let (prefix, digits) = scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
      text.append(contentsOf: (prefix + PythonText.hexadecimal(scalar.value, digits)).unicodeScalars)
    }
  }
}
