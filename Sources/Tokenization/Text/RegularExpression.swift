import CPCRE2

/// A compiled pattern over UTF-8 with Unicode properties, translated to machine code where PCRE2 can.
///
/// The Unicode version is that of `UnicodeClasses`, whatever PCRE2's own (`PatternTranslation`).
/// It is made once and used by any number of threads; each use brings its own `Matcher`.
final class RegularExpression: @unchecked Sendable {
  /// The pattern as its file has it.
  let pattern: String
  fileprivate let code: OpaquePointer
  fileprivate let isTranslated: Bool

  init(_ pattern: String) throws(TokenizationError) {
    self.pattern = pattern
    var source = Array(PatternTranslation.translated(pattern).utf8)
    var number: Int32 = 0
    var offset = 0
    let options = UInt32(PCRE2_UTF) | UInt32(PCRE2_UCP) | UInt32(PCRE2_NEVER_BACKSLASH_C)
    guard let code = pcre2_compile_8(&source, source.count, options, &number, &offset, nil) else {
      var text = [UInt8](repeating: 0, count: 256)
      let length = pcre2_get_error_message_8(number, &text, text.count)
      let message = String(decoding: text.prefix(max(0, Int(length))), as: UTF8.self)
      throw TokenizationError("the pattern \"\(pattern)\" does not compile: \(message)")
    }
    self.code = code
    isTranslated = pcre2_jit_compile_8(code, UInt32(PCRE2_JIT_COMPLETE)) == 0
  }

  deinit { pcre2_code_free_8(code) }
}

/// One thread's use of a `RegularExpression`: finds matches from left to right in bytes that are known to be UTF-8.
struct Matcher: ~Copyable {
  private let expression: RegularExpression
  private let data: OpaquePointer?
  private let offsets: UnsafeMutablePointer<Int>?

  init(_ expression: RegularExpression) {
    self.expression = expression
    data = pcre2_match_data_create_8(1, nil)
    offsets = data.flatMap { pcre2_get_ovector_pointer_8($0) }
  }

  deinit { if let data { pcre2_match_data_free_8(data) } }

  /// The first match at or after `start`; `nil` also when the pattern needs more steps than PCRE2 allows.
  @inline(__always)
  func next(in text: UnsafePointer<UInt8>, count: Int, from start: Int) -> (start: Int, end: Int)? {
    guard let data, let offsets else { return nil }
    let options = UInt32(PCRE2_NO_UTF_CHECK)
    var result: Int32
    if expression.isTranslated {
      result = pcre2_jit_match_8(expression.code, text, count, start, options, data, nil)
      if result == PCRE2_ERROR_JIT_STACKLIMIT {
        result = pcre2_match_8(
          expression.code, text, count, start, options | UInt32(PCRE2_NO_JIT), data, nil)
      }
    } else {
      result = pcre2_match_8(expression.code, text, count, start, options, data, nil)
    }
    guard result >= 0 else { return nil }
    // `\K` in a lookbehind may put the end before the start; such a match is none.
    return offsets[0] <= offsets[1] && offsets[0] >= start ? (offsets[0], offsets[1]) : nil
  }
}
