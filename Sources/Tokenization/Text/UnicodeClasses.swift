import CTokenization

/// What each character is to the pre-tokenizers, by the Unicode versions of the reference (`unicode_classes.h`).
enum UnicodeClasses {
  /// One byte per character up to U+10FFFF; made once, never freed.
  nonisolated(unsafe) static let table: UnsafePointer<UInt8> = {
    let table = UnsafeMutablePointer<UInt8>.allocate(capacity: Int(SL_UNICODE_COUNT))
    sl_fill_unicode_classes(table)
    return UnsafePointer(table)
  }()

  @inline(__always)
  static func of(_ scalar: Unicode.Scalar) -> Int { Int(table[Int(scalar.value)]) }

  /// The general category of a character as a bit.
  @inline(__always)
  static func set(of scalar: Unicode.Scalar) -> UInt32 { 1 << UInt32(table[Int(scalar.value)] & 31) }
}

extension Unicode.Scalar {
  /// Whether Unicode counts this among white space (White_Space).
  var isWhiteSpace: Bool { UnicodeClasses.set(of: self) & UInt32(SL_SPACES) != 0 }

  /// Whether this is a number of any kind (Nd, Nl, No).
  var isNumeric: Bool { UnicodeClasses.of(self) & SL_NUMERIC != 0 }

  /// Whether this is part of a word: a letter, mark, digit, connector, or joiner.
  var isWord: Bool { UnicodeClasses.of(self) & SL_WORD != 0 }

  /// Whether this is punctuation to the pre-tokenizer of that name: ASCII's signs, or of a category of punctuation.
  var isPunctuation: Bool { UnicodeClasses.of(self) & SL_PUNCTUATION != 0 }
}
