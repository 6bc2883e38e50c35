import JSONValues
import Testing

@Suite struct JSONTextTests {
  private func edited(_ text: String, _ change: (inout JSONText) -> Bool) throws -> String? {
    var json = try JSONText(Array(text.utf8))
    return change(&json) ? String(decoding: json.bytes, as: UTF8.self) : nil
  }

  @Test func valuesChangeInPlace() throws {
    let text = "{ \"a\" : 1,\n\t\"b\": {\"c\": [1, 2 ,3], \"d\": \"x\\u00e9\\/\"} , \"e\":null }\n"
    #expect(try edited(text) { $0.set(["a"], to: "é") } == text.replacing("1,\n", "\"\\u00e9\",\n"))
    #expect(try edited(text) { $0.set(["b", "c", 1], to: 22) } == text.replacing("2 ,", "22 ,"))
    #expect(try edited(text) { $0.set(["e"], to: [1]) } == text.replacing("null", "[1]"))
    #expect(try edited(text) { $0.set(["b", "d"], to: 0.5) } == text.replacing("\"x\\u00e9\\/\"", "0.5"))
    #expect(try edited(text) { $0.set(["b", "c", 3], to: 1) } == nil)
    #expect(try edited(text) { $0.set(["a", "x"], to: 1) } == nil)
    #expect(try edited(text) { $0.set(["x", "y"], to: 1) } == nil)
  }

  @Test func theLastOfTwoKeysCounts() throws {
    #expect(try edited("{\"a\":1,\"a\":2}") { $0.set(["a"], to: 3) } == "{\"a\":1,\"a\":3}")
  }

  @Test func newKeysGoWhereTheyBelong() throws {
    let sorted = "{\n  \"a\": 1,\n  \"c\": 2\n}\n"
    #expect(try edited(sorted) { $0.set(["b"], to: 9) } == "{\n  \"a\": 1,\n  \"b\": 9,\n  \"c\": 2\n}\n")
    #expect(try edited(sorted) { $0.set(["d"], to: 9) } == "{\n  \"a\": 1,\n  \"c\": 2,\n  \"d\": 9\n}\n")
    #expect(try edited(sorted) { $0.set(["A"], to: 9) } == "{\n  \"A\": 9,\n  \"a\": 1,\n  \"c\": 2\n}\n")
    #expect(try edited("{\"c\":1, \"a\":2}") { $0.set(["b"], to: 9) } == "{\"c\":1, \"a\":2, \"b\":9}")
    #expect(try edited("{}") { $0.set(["b"], to: 9) } == "{\"b\": 9}")
    #expect(try edited("\u{FEFF}{}") { $0.set(["b"], to: 9) } == "\u{FEFF}{\"b\": 9}")
  }

  @Test func keysAreRenamed() throws {
    #expect(
      try edited("{\"x\": {\"a\" : 1}}") { $0.renameKey(at: ["x", "a"], to: "\u{FFFD}") }
        == "{\"x\": {\"\u{FFFD}\" : 1}}")
    #expect(try edited("{\"x\": 1}") { $0.renameKey(at: ["y"], to: "z") } == nil)
  }

  @Test(arguments: [
    ([0], "[ 2,\n3 ]"), ([1], "[ 1,\n3 ]"), ([2], "[ 1, 2 ]"), ([0, 1], "[ 3 ]"), ([0, 2], "[ 2 ]"), ([1, 2], "[ 1 ]"),
    ([0, 1, 2], "[  ]"), ([7], "[ 1, 2,\n3 ]"),
  ])
  func elementsAreRemoved(indices: [Int], result: String) throws {
    #expect(
      try edited("{\"l\": [ 1, 2,\n3 ]}") { $0.removeElements(Set(indices), from: ["l"]) } == "{\"l\": \(result)}")
  }

  @Test func elementsAreInserted() throws {
    let list = "[\n  {\n    \"id\": 1,\n    \"s\": true\n  }\n]"
    let one = "{\n    \"id\": 2,\n    \"s\": false\n  }"
    let new: JSONValue = ["id": 2, "s": false]
    #expect(
      try edited(list) { $0.insertElement(new, atStart: true, of: []) }
        == list.replacing("[\n  ", "[\n  \(one),\n  "))
    #expect(
      try edited(list) { $0.insertElement(new, atStart: false, of: []) } == list.replacing("}\n]", "},\n  \(one)\n]"))
    #expect(try edited("[]") { $0.insertElement(1, atStart: true, of: []) } == "[1]")
    #expect(try edited("[1, 2]") { $0.insertElement(3, atStart: false, of: []) } == "[1, 2,3]")
  }

  @Test func stringsAreSpliced() throws {
    // Escapes that are not touched keep their spelling.
    let text = #"{"t": "a\u003cb\n\ud83d\ude00c\/d"}"#
    // a < b \n 😀 c / d
    #expect(
      try edited(text) { $0.splice(["t"], [(range: 2..<3, text: "B\"")]) } == #"{"t": "a\u003cB\"\n\ud83d\ude00c\/d"}"#)
    #expect(
      try edited(text) { $0.splice(["t"], [(range: 0..<1, text: ""), (range: 4..<8, text: "\n")]) }
        == #"{"t": "\u003cb\n\nc\/d"}"#)
    #expect(
      try edited(text) { $0.splice(["t"], [(range: 11..<11, text: "é")]) }
        == #"{"t": "a\u003cb\n\ud83d\ude00c\/d\u00e9"}"#)
    #expect(try edited(text) { $0.splice(["t"], [(range: 5..<6, text: "")]) } == nil)
    #expect(try edited(text) { $0.splice(["t"], [(range: 0..<99, text: "")]) } == nil)
  }

  @Test func whatIsNoJSONIsRefused() {
    for text in ["", "{", "[1,]", "{\"a\":1}x"] {
      #expect(throws: JSONError.self) { try JSONText(Array(text.utf8)) }
    }
  }
}

extension String {
  fileprivate func replacing(_ part: String, _ other: String) -> String {
    guard let range = self.firstRange(of: part) else { return self }
    var result = self
    result.replaceSubrange(range, with: other)
    return result
  }
}
