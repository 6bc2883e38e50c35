import JSONValues
import Testing

@Suite struct JSONParserTests {
  @Test func readsEveryKindOfValue() throws {
    let value = try JSONValue.parse(#" {"a": [1, -2.5, true, false, null], "b": {"c": "d"}, "e": []} "#)
    #expect(value["a"]?[0] == 1)
    #expect(value["a"]?[1] == -2.5)
    #expect(value["a"]?[2]?.bool == true)
    #expect(value["a"]?[3]?.bool == false)
    #expect(value["a"]?[4]?.isNull == true)
    #expect(value["a"]?[5] == nil)
    #expect(value["b"]?["c"]?.string == "d")
    #expect(value["e"] == [])
    #expect(value["x"] == nil)
    #expect(value.object?.keys == ["a", "b", "e"])
  }

  @Test(arguments: [
    ("0", JSONValue.integer(0)), ("-0", .integer(0)), ("12", .integer(12)),
    ("9223372036854775807", .integer(.max)),
    ("-9223372036854775808", .integer(.min)),
    ("9223372036854775808", .number(9_223_372_036_854_775_808)),
    ("-9223372036854775809", .number(-9.223372036854776e18)),
    ("100000000000000000000", .number(1e20)),
    ("18446744073709551616", .number(18_446_744_073_709_551_616)),
    ("0.00000000000000000000012", .number(1.2e-22)), ("1844674407370955161600", .number(1.8446744073709552e21)),
    ("1e3", .number(1000)), ("1E+3", .number(1000)), ("1.0", .number(1)),
    ("0.1", .number(0.1)), ("1e-5", .number(1e-5)), ("2.2250738585072014e-308", .number(2.2250738585072014e-308)),
    ("1.7976931348623157e308", .number(1.7976931348623157e308)),
    ("123456789012345678.5", .number(123456789012345680)),
    ("0.30000000000000004", .number(0.1 + 0.2)), ("1e-400", .number(0)), ("0e99999999999", .number(0)),
    ("-9.876543210987654", .number(-9.876543210987654)), ("1e00000000000000000000000000002", .number(100)),
  ])
  func readsNumbers(_ text: String, _ expected: JSONValue) throws {
    #expect(try JSONValue.parse(text) == expected)
  }

  @Test func integersAreAlsoIntegralNumbers() throws {
    #expect(try JSONValue.parse("2.0").integer == 2)
    #expect(try JSONValue.parse("2.5").integer == nil)
    #expect(try JSONValue.parse("1e300").integer == nil)
    #expect(try JSONValue.parse("7").double == 7)
  }

  @Test func readsStrings() throws {
    #expect(try JSONValue.parse(#""a\"\\\/\b\f\n\r\tb""#).string == "a\"\\/\u{8}\u{c}\n\r\tb")
    #expect(try JSONValue.parse(#""\u00e9 é \ud83d\ude00 😀 \u0000""#).string == "é é 😀 😀 \0")
    #expect(try JSONValue.parse("\"\"").string == "")
  }

  @Test func canonicallyEquivalentKeysAreDifferent() throws {
    let value = try JSONValue.parse("{\"\u{212B}\": 1, \"\u{C5}\": 2, \"A\u{30A}\": 3}")
    #expect(value.object?.count == 3)
    #expect(value["\u{212B}"] == 1)
    #expect(value["\u{C5}"] == 2)
    #expect(value["A\u{30A}"] == 3)
    #expect(JSONValue.string("\u{212B}") != .string("\u{C5}"))
  }

  @Test func aByteOrderMarkIsSkipped() throws {
    #expect(try JSONValue.parse([0xEF, 0xBB, 0xBF] + Array("[1]".utf8)) == [1])
  }

  @Test(arguments: [
    ("", "line 1, column 1: the text is empty, a JSON value was expected"),
    (" \n ", "line 2, column 2: the text is empty, a JSON value was expected"),
    ("[1, 2", "line 1, column 6: the text ends where ',' or ']' was expected"),
    ("[1 2]", "line 1, column 4: '2' stands where ',' or ']' was expected"),
    ("[1,]", "line 1, column 4: ']' stands where a value was expected"),
    ("{\"a\" 1}", "line 1, column 6: '1' stands where ':' was expected after a key"),
    ("{a: 1}", "line 1, column 2: 'a' stands where a key in double quotes was expected"),
    ("{\"a\": 1,\n}", "line 2, column 1: '}' stands where a key in double quotes was expected"),
    ("{\"a\":\n \"b", "line 2, column 2: this string has no closing quote"),
    ("{'a': 1}", "line 1, column 2: a single quote stands where a key in double quotes was expected"),
    ("[1] x", "line 1, column 5: 'x' stands after the end of the JSON value"),
    ("nul", "line 1, column 1: 'n' stands where a value was expected"),
    ("é", "line 1, column 1: a character that is not ASCII stands where a value was expected"),
    ("[\"é\", x]", "line 1, column 7: 'x' stands where a value was expected"),
    ("[NaN]", "line 1, column 2: NaN is not JSON; a number must be finite"),
    ("[Infinity]", "line 1, column 2: Infinity is not JSON; a number must be finite"),
    ("[-Infinity]", "line 1, column 2: -Infinity is not JSON; a number must be finite"),
    ("1e999", "line 1, column 1: this number is too large for a 64-bit float"),
    ("1e18446744073709551617", "line 1, column 1: this number is too large for a 64-bit float"),
    ("-", "line 1, column 2: the text ends where a digit was expected"),
    ("01", "line 1, column 1: a number may not start with 0 before other digits"),
    ("1.", "line 1, column 3: the text ends where a digit was expected after '.'"),
    ("1e", "line 1, column 3: the text ends where a digit of the exponent was expected"),
    ("\"\\ud800\"", "line 1, column 2: a lone surrogate: the second half of its pair is missing"),
    ("\"\\ud800\\u0041\"", "line 1, column 2: a lone surrogate: the second half of its pair is missing"),
    ("\"\\udc00\"", "line 1, column 2: a lone surrogate: the first half of its pair is missing"),
    ("\"\\u12g4\"", "line 1, column 2: \\u needs four hexadecimal digits"),
    ("\"\\u12", "line 1, column 2: the text ends within an escape"),
    ("\"\\", "line 1, column 2: the text ends within an escape"),
    ("\"\\x\"", "line 1, column 2: a backslash before 'x' is no escape"),
    ("\"a\nb\"", "line 1, column 3: a line break within a string; write \\n"),
    ("\"a\tb\"", "line 1, column 3: a control character within a string; write it as an escape"),
  ])
  func refuses(_ text: String, _ description: String) throws {
    let error = try #require(throws: JSONError.self) { try JSONValue.parse(text) }
    #expect(error.description == description)
  }

  @Test(
    arguments: [
      [0x22, 0xFF, 0x22], [0x22, 0xC3, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22],
      [0x22, 0xF5, 0x80, 0x80, 0x80, 0x22], [0x22, 0xE2, 0x82, 0x22], [0x22, 0x5C, 0x6E, 0x80, 0x22],
    ] as [[UInt8]])
  func refusesInvalidUTF8(_ bytes: [UInt8]) throws {
    let error = try #require(throws: JSONError.self) { try JSONValue.parse(bytes) }
    #expect(error.message == "this byte is not UTF-8")
  }

  @Test func refusesUTF16() throws {
    let error = try #require(throws: JSONError.self) { try JSONValue.parse([0xFF, 0xFE, 0x5B, 0, 0x5D, 0]) }
    #expect(error.message == "the text is UTF-16; save it as UTF-8")
  }

  @Test func depthIsLimited() throws {
    let deep = String(repeating: "[", count: 100_000)
    let error = try #require(throws: JSONError.self) { try JSONValue.parse(deep) }
    #expect(error.message == "arrays and objects lie more than 512 deep within each other")
    let allowed = String(repeating: "[", count: 512) + String(repeating: "]", count: 512)
    #expect(throws: Never.self) { try JSONValue.parse(allowed) }
    #expect(throws: JSONError.self) { try JSONValue.parse("[[1]]", options: JSONParsingOptions(maximumDepth: 1)) }
  }

  @Test func duplicateKeys() throws {
    let text = "{\"a\": 1, \"b\": 2,\n \"a\": 3}"
    #expect(try JSONValue.parse(text) == ["a": 3, "b": 2])
    let error = try #require(throws: JSONError.self) {
      try JSONValue.parse(text, options: JSONParsingOptions(refusesDuplicateKeys: true))
    }
    #expect(error.description == "line 2, column 2: the key \"a\" appears twice in one object")
    let many = "{" + (0..<100).map { "\"\($0)\": \($0)," }.joined() + "\"57\": -1}"
    #expect(try JSONValue.parse(many)["57"] == -1)
    #expect(try JSONValue.parse(many).object?.count == 100)
  }

  @Test func aLargeVocabularyIsReadQuickly() throws {
    let entries = (0..<200_000).map { "\"token\($0)\\u0120é\": \($0)" }.joined(separator: ",\n")
    let text = "{\"vocab\": {\(entries)}, \"merges\": [\((0..<200_000).map { "\"a\($0) b\"" }.joined(separator: ","))]}"
    let clock = ContinuousClock()
    var value = JSONValue.null
    let time = try clock.measure { value = try JSONValue.parse(text) }
    #expect(value["vocab"]?["token123456Ġé"] == 123_456)
    #expect(value["merges"]?.array?.count == 200_000)
    #expect(time < .seconds(2), "\(text.utf8.count) bytes took \(time)")
  }
}
