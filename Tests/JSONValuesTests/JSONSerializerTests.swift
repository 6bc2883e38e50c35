import JSONValues
import Testing

@Suite struct JSONSerializerTests {
  @Test(arguments: [
    (0.0, "0.0"), (-0.0, "-0.0"), (1.0, "1.0"), (100000.0, "100000.0"), (1e-5, "1e-05"), (0.0001, "0.0001"),
    (0.00012345, "0.00012345"), (1e16, "1e+16"), (1e15, "1000000000000000.0"), (9007199254740992, "9007199254740992.0"),
    (123456789.125, "123456789.125"), (1.5e300, "1.5e+300"), (2e-4, "0.0002"), (2.5e-10, "2.5e-10"),
    (.leastNonzeroMagnitude, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"),
    (0.1 + 0.2, "0.30000000000000004"),
    (12345678901234567.0, "1.2345678901234568e+16"), (-3.25, "-3.25"), (.nan, "null"), (.infinity, "null"),
  ])
  func doublesAreWrittenAsPythonWritesThem(_ value: Double, _ text: String) {
    #expect(JSONValue.number(value).serialized() == text)
  }

  @Test func stylesArePythons() throws {
    let value: JSONValue = [
      "b": [1, 2.5, [], [:]], "a": ["x": true, "y": .null], "é": "\u{7f}\u{1}\"\\\n\t\r\u{8}\u{c}/😀",
    ]
    #expect(
      value.serialized()
        == #"{"b": [1, 2.5, [], {}], "a": {"x": true, "y": null}, "é": "\#u{7f}\u0001\"\\\n\t\r\b\f/😀"}"#)
    #expect(value["a"]?.serialized(.compact) == #"{"x":true,"y":null}"#)
    #expect(
      value.serialized(JSONStyle(sortsKeys: true, escapesNonASCII: true))
        == #"{"a": {"x": true, "y": null}, "b": [1, 2.5, [], {}], "\u00e9": "\u007f\u0001\"\\\n\t\r\b\f/\ud83d\ude00"}"#
    )
    #expect(
      (["b": [1, []], "a": ["x": 1]] as JSONValue).serialized(pretty: true) == """
        {
          "b": [
            1,
            []
          ],
          "a": {
            "x": 1
          }
        }
        """)
  }

  @Test func whatIsWrittenReadsBackTheSame() throws {
    let value: JSONValue = ["a": [1, 1.0, "x\u{0}y", .number(.pi), .integer(.min), ["": .null]]]
    #expect(try JSONValue.parse(value.serialized()) == value)
    #expect(try JSONValue.parse(value.serialized(pretty: true)) == value)
  }

  @Test func objectsKeepTheirOrder() {
    var object = JSONObject()
    for index in 0..<40 { object["key\(index)"] = .integer(index) }
    object["key3"] = nil
    object["key5"] = "new"
    object["key3"] = "last"
    #expect(object.count == 40)
    #expect(object.keys.first == "key0")
    #expect(object.keys.last == "key3")
    #expect(object["key5"] == "new")
    #expect(object["key39"] == 39)
    for key in object.keys { object[key] = nil }
    #expect(object.isEmpty && object["key1"] == nil)
  }
}
