import CPCRE2
import CTokenization
import Synchronization

/// Writes patterns so that PCRE2 finds what the engine finds for which they were written (Oniguruma, inside of Hugging
/// Face's `tokenizers`): its Unicode version, and its `\s`, `\w` and `\d`.
enum PatternTranslation {
  /// A pattern with its properties and short classes spelled out where PCRE2 sees other characters in them.
  static func translated(_ pattern: String) -> String {
    let scalars = Array(pattern.unicodeScalars)
    var result = String.UnicodeScalarView()
    var index = 0
    /// Where the members of the class begin that `index` is in.
    var classStart: Int?
    while index < scalars.count {
      let scalar = scalars[index]
      if scalar == "\\", index + 1 < scalars.count {
        if let (property, isNegated, length) = property(scalars[index...]) {
          let members = property.members(isNegated: isNegated)
          result.append(contentsOf: (classStart == nil ? "[\(members)]" : members).unicodeScalars)
          index += length
        } else {
          result.append(contentsOf: scalars[index...index + 1])
          index += 2
        }
        continue
      }
      if let start = classStart {
        if scalar == "]", index > start {
          classStart = nil
        } else if scalar == "-", index > start, isProperty(scalars[(index + 1)...]) || follows(scalars, index, start) {
          // Beside a property a hyphen is itself; beside what it is spelled out as, it would make a range.
          result.append("\\")
        }
      } else if scalar == "[" {
        classStart = index + (index + 1 < scalars.count && scalars[index + 1] == "^" ? 2 : 1)
      }
      result.append(scalar)
      index += 1
    }
    return String(result)
  }

  private static func isProperty(_ text: ArraySlice<Unicode.Scalar>) -> Bool {
    text.count > 1 && text.first == "\\" && property(text) != nil
  }

  /// Whether what is before `index` in a class is a property.
  private static func follows(_ scalars: [Unicode.Scalar], _ index: Int, _ start: Int) -> Bool {
    // The longest escapes are like `\p{^Lu}`.
    (max(start, index - 7)..<index).contains { place in
      scalars[place] == "\\" && property(scalars[place...])?.length == index - place
    }
  }

  /// The property that an escape at the start of `text` names, whether what has it is left out, and the escape's length.
  private static func property(_ text: ArraySlice<Unicode.Scalar>) -> (Property, isNegated: Bool, length: Int)? {
    let start = text.startIndex
    switch text[start + 1] {
    case "s": return (.space, false, 2)
    case "S": return (.space, true, 2)
    case "w": return (.word, false, 2)
    case "W": return (.word, true, 2)
    case "d": return Property(category: "Nd").map { ($0, false, 2) }
    case "D": return Property(category: "Nd").map { ($0, true, 2) }
    case "p", "P": break
    default: return nil
    }
    var isNegated = text[start + 1] == "P"
    guard text.count > 2 else { return nil }
    guard text[start + 2] == "{" else {
      return Property(category: String(Character(text[start + 2]))).map { ($0, isNegated, 3) }
    }
    guard let end = text.firstIndex(of: "}") else { return nil }
    var name = text[(start + 3)..<end]
    if name.first == "^" {
      isNegated.toggle()
      name = name.dropFirst()
    }
    var category = String.UnicodeScalarView()
    category.append(contentsOf: name)
    return Property(category: String(category)).map { ($0, isNegated, end + 1 - start) }
  }
}

/// A set of characters that a pattern can name.
private struct Property: Hashable {
  /// PCRE2's name for it.
  private let escape: String
  /// Its general categories, as bits.
  private let categories: UInt32
  private let isWord: Bool

  static let space = Property(escape: "\\s", categories: UInt32(SL_SPACES), isWord: false)
  static let word = Property(escape: "\\w", categories: 0, isWord: true)

  private init(escape: String, categories: UInt32, isWord: Bool) {
    self.escape = escape
    self.categories = categories
    self.isWord = isWord
  }

  /// A general category by its short name; `nil` for scripts and all else.
  init?(category: String) {
    guard let categories = Self.categories[category] else { return nil }
    self.init(escape: "\\p{\(category)}", categories: categories, isWord: false)
  }

  /// By long and short names: which categories belong to them.
  private static let categories: [String: UInt32] = {
    let names: [(String, sl_category)] = [
      ("Cn", SL_CN), ("Cc", SL_CC), ("Cf", SL_CF), ("Co", SL_CO), ("Cs", SL_CS), ("Ll", SL_LL), ("Lm", SL_LM),
      ("Lo", SL_LO), ("Lt", SL_LT), ("Lu", SL_LU), ("Mc", SL_MC), ("Me", SL_ME), ("Mn", SL_MN), ("Nd", SL_ND),
      ("Nl", SL_NL), ("No", SL_NO), ("Pc", SL_PC), ("Pd", SL_PD), ("Pe", SL_PE), ("Pf", SL_PF), ("Pi", SL_PI),
      ("Po", SL_PO), ("Ps", SL_PS), ("Sc", SL_SC), ("Sk", SL_SK), ("Sm", SL_SM), ("So", SL_SO), ("Zl", SL_ZL),
      ("Zp", SL_ZP), ("Zs", SL_ZS), ("Cc", SL_CC_SPACE),
    ]
    var result: [String: UInt32] = [:]
    for (name, category) in names {
      result[name, default: 0] |= 1 << category.rawValue
      result[String(name.prefix(1)), default: 0] |= 1 << category.rawValue
    }
    for name in ["Ll", "Lt", "Lu"] { result["L&", default: 0] |= result[name] ?? 0 }
    return result
  }()

  private func contains(_ value: UInt32) -> Bool {
    let entry = UnicodeClasses.table[Int(value)]
    guard isWord else { return categories >> UInt32(entry & 31) & 1 == 1 }
    // Oniguruma's words have superscripts and fractions of Latin 1, and no joiners.
    if [0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE].contains(value) { return true }
    return Int(entry) & SL_WORD != 0 && value != 0x200C && value != 0x200D
  }

  /// What stands for the property inside of a class.
  func members(isNegated: Bool) -> String {
    let ranges = Self.known.withLock { known in
      if let ranges = known[self] { return ranges }
      let ranges = compare()
      known[self] = ranges
      return ranges
    }
    if isNegated {
      if ranges.missing.isEmpty && !ranges.hasMore {
        // `\P{L}`, `\S`: the letter after the backslash in upper case.
        return "\\" + escape.dropFirst().prefix(1).uppercased() + escape.dropFirst(2)
      }
      return Self.text(Self.ranges { !contains($0) })
    }
    return ranges.hasMore ? Self.text(Self.ranges(where: contains)) : escape + Self.text(ranges.missing)
  }

  private struct Comparison {
    /// What PCRE2 does not count among the characters of the property.
    var missing: [ClosedRange<UInt32>]
    /// Whether it counts others too.
    var hasMore: Bool
  }

  private static let known = Mutex<[Property: Comparison]>([:])

  /// Asks PCRE2 about every character.
  private func compare() -> Comparison {
    var result = Comparison(missing: [], hasMore: false)
    guard let theirs = Self.matches(of: escape) else { return Comparison(missing: [], hasMore: true) }
    result.missing = Self.ranges { contains($0) && !theirs[Int($0)] }
    result.hasMore = (0...UInt32(0x10FFFF)).contains { theirs[Int($0)] && !contains($0) }
    return result
  }

  /// Which characters an escape of PCRE2 matches.
  private static func matches(of escape: String) -> [Bool]? {
    var source = Array("\(escape)+".utf8)
    var (number, offset): (Int32, Int) = (0, 0)
    let options = UInt32(PCRE2_UTF) | UInt32(PCRE2_UCP)
    guard let code = pcre2_compile_8(&source, source.count, options, &number, &offset, nil) else { return nil }
    defer { pcre2_code_free_8(code) }
    guard let data = pcre2_match_data_create_8(1, nil) else { return nil }
    defer { pcre2_match_data_free_8(data) }
    guard let offsets = pcre2_get_ovector_pointer_8(data) else { return nil }
    pcre2_jit_compile_8(code, UInt32(PCRE2_JIT_COMPLETE))
    var result = [Bool](repeating: false, count: Int(SL_UNICODE_COUNT))
    // Some hundred characters at a time, so that no match is long.
    for first in stride(from: UInt32(0), to: UInt32(SL_UNICODE_COUNT), by: 256) {
      let text = (first..<first + 256).compactMap(Unicode.Scalar.init)
      var bytes: [UInt8] = []
      for scalar in text { bytes.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter) }
      var position = 0
      while pcre2_match_8(code, bytes, bytes.count, position, UInt32(PCRE2_NO_UTF_CHECK), data, nil) > 0 {
        position = offsets[1]
        for scalar in String(decoding: bytes[offsets[0]..<position], as: UTF8.self).unicodeScalars {
          result[Int(scalar.value)] = true
        }
      }
    }
    return result
  }

  private static func ranges(where isMember: (UInt32) -> Bool) -> [ClosedRange<UInt32>] {
    var result: [ClosedRange<UInt32>] = []
    var start: UInt32?
    // Surrogates are in no text, and PCRE2 takes none in a pattern.
    for value in 0...UInt32(0x110000) {
      if value < 0x110000, !(0xD800...0xDFFF).contains(value), isMember(value) {
        start = start ?? value
      } else if let first = start {
        result.append(first...value - 1)
        start = nil
      }
    }
    return result
  }

  private static func text(_ ranges: [ClosedRange<UInt32>]) -> String {
    func character(_ value: UInt32) -> String { "\\x{\(String(value, radix: 16))}" }
    return ranges.map { range in
      range.count == 1
        ? character(range.lowerBound) : character(range.lowerBound) + "-" + character(range.upperBound)
    }.joined()
  }
}
