import JSONValues
import TestSupport
import Testing

@testable import Training

@Suite struct DatasetTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func samples(_ name: String, _ text: String) throws -> [DatasetSample] {
    try Dataset(paths: [folder.write(name, text)]).samples()
  }

  /// The error's line without the folder, or what was read instead.
  func failure(_ name: String, _ bytes: [UInt8]) -> String {
    do {
      return "\(try Dataset(paths: [folder.write(name, bytes)]).samples().count) samples"
    } catch {
      return "\(error)".replacing("\(folder.path)/", with: "")
    }
  }

  /// The line of each record.
  func lines(_ dataset: Dataset) throws -> [Int] {
    var lines: [Int] = []
    var reader = dataset.makeReader()
    while let record = try reader.next() { lines.append(record.raw.line) }
    return lines
  }

  static let hi: JSONValue = [["role": "user", "content": "Hi"], ["role": "assistant", "content": "Ho"]]

  @Test func formats() throws {
    let conversation = DatasetSample.conversation(messages: Self.hi, tools: nil)
    #expect(
      try samples(
        "messages.jsonl",
        #"{"messages": [{"role":"user","content":"Hi"},{"role":"assistant","content":[{"type":"text","text":"Ho"}]}]}"#)
        == [conversation])
    #expect(
      try samples(
        "roles.jsonl",
        #"{"conversations": [{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]}"#) == [conversation])
    #expect(
      try samples(
        "sharegpt.json", #"[{"id": 1, "conversations": [{"from":"human","value":"Hi"},{"from":"gpt","value":"Ho"}]}]"#)
        == [conversation])
    #expect(try samples("question.jsonl", #"{"question":"Hi","answer":"Ho"}"#) == [conversation])
    #expect(
      try samples(
        "turns.jsonl",
        #"{"prompt":[{"role":"user","content":"Hi"}],"completion":[{"role":"assistant","content":"Ho"}]}"#)
        == [conversation])
    #expect(
      try samples("completion.jsonl", #"{"prompt":"Hi","completion":"Ho"}"#)
        == [.completion(prompt: "Hi", completion: "Ho")])
    #expect(try samples("text.jsonl", #"{"text":"Hi Ho"}"#) == [.text("Hi Ho")])
    #expect(try samples("plain.TXT", "\u{FEFF}Hi\nHo\n") == [.document("Hi\nHo\n")])
    // A text file is text even where it begins like JSON.
    #expect(try samples("plain.txt", "[Hi]") == [.document("[Hi]")])
  }

  @Test func alpaca() throws {
    let samples = try samples(
      "alpaca.json",
      """
      [ {"instruction": "Add.", "input": "1 2", "output": "3", "text": "…"},
        {"instruction": "Hi", "output": "Ho", "system": "Be brief."} ]
      """)
    guard case .instruction(let add) = samples.first, case .instruction(let hi) = samples.last else {
      Issue.record("not instructions: \(samples)")
      return
    }
    #expect(add.messages[0]?["content"] == "Add.\n\n1 2")
    #expect(add.prompt.hasSuffix("### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"))
    #expect(hi.messages[0]?["role"] == "system" && hi.messages[2]?["content"] == "Ho")
    #expect(hi.prompt.hasSuffix("completes the request.\n\n### Instruction:\nHi\n\n### Response:\n"))
    let dataset = try Dataset(paths: ["\(folder.path)/alpaca.json"])
    #expect(
      dataset.description.hasSuffix("alpaca.json: Alpaca (instruction/input/output), JSON (not used: 'text')"))
  }

  @Test func toolCalls() throws {
    let samples = try samples(
      "tools.jsonl",
      #"{"tools": "[{\"name\": \"add\"}]", "conversations": [{"from": "human", "value": "1+2?"}, "#
        + #"{"from": "function_call", "value": "{\"name\": \"add\", \"arguments\": {\"a\": 1}}"}, "#
        + #"{"from": "observation", "value": "3"}, {"from": "gpt", "value": "3"}]}"#)
    guard case .conversation(let messages, let tools) = samples[0] else { return }
    #expect(tools == [["type": "function", "function": ["name": "add"]]])
    #expect(messages[1]?["tool_calls"]?[0]?["function"]?["arguments"] == ["a": 1])
    #expect(messages[2]?["role"] == "tool")
    let openAI = try self.samples(
      "openai.jsonl",
      #"{"messages": [{"role": "assistant", "content": null, "#
        + #""tool_calls": [{"function": {"name": "add", "arguments": "{\"a\": 1}"}}]}]}"#)
    guard case .conversation(let calls, _) = openAI[0] else { return }
    #expect(calls[0]?["tool_calls"]?[0]?["function"]?["arguments"] == ["a": 1])
    #expect(calls[0]?["content"] == .null)
  }

  @Test func linesMayEndAnyWay() throws {
    let text = "\u{FEFF}\n{\"text\":\"a\"}\r\n\r\n   \n\t{\"text\":\"b\\nc\"}  \n{\"text\":\"d\"}"
    let path = try folder.write("lines.jsonl", text)
    let dataset = try Dataset(paths: [path, path])
    #expect(try dataset.samples() == ["a", "b\nc", "d", "a", "b\nc", "d"].map { .text($0) })
    #expect(try lines(dataset) == [2, 5, 6, 2, 5, 6])
  }

  @Test func arraysAreReadElementByElement() throws {
    let text = #"[{"text":"a]},\" \\"},\#n  {"text":\#n "b", "x": [[1, {}], "["]}\#n,{"text":"c"}]\#n"#
    let path = try folder.write("array.json", text)
    let dataset = try Dataset(paths: [path])
    #expect(try dataset.samples() == [.text("a]},\" \\"), .text("b"), .text("c")])
    #expect(try lines(dataset) == [1, 2, 4])
  }

  static let failures: [(name: String, text: String, message: String)] = [
    ("a.jsonl", "", "a.jsonl: the file is empty; it needs at least one record"),
    ("a.jsonl", " \n\n", "a.jsonl: the file is empty; it needs at least one record"),
    ("a.txt", "", "a.txt: the file is empty; it needs at least one record"),
    ("a.json", "[]", "a.json: the file is empty; it needs at least one record"),
    ("a.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\n", "a.jsonl:3: column 9: "),
    ("a.jsonl", "{\"text\":\"a\",\"text\":\"b\"}", "a.jsonl:1: column "),
    ("a.jsonl", "{\"text\":\"a\"}\n[1]", "a.jsonl:2: a record must be a JSON object, this is an array"),
    (
      "a.jsonl", "{\"text\":\"a\"}\n{\"question\":\"a\",\"answer\":\"b\"}",
      "a.jsonl:2: the record is question/answer, but the file began as text records at line 1"
    ),
    ("a.jsonl", "{\"text\":\"a\"}\n{\"text\":3}", "a.jsonl:2: `text` must be a string, it is an integer"),
    ("a.jsonl", "{\"body\":\"a\"}", "a.jsonl:1: the record has the keys 'body'; expected `messages`, "),
    ("a.jsonl", "{}", "a.jsonl:1: the record has no keys; expected "),
    ("a.jsonl", "{\"chosen\":1,\"rejected\":2,\"prompt\":\"a\"}", "a.jsonl:1: `chosen` must be a text or messages"),
    ("a.jsonl", "{\"chosen\":1,\"rejected\":2,\"messages\":[]}", "a.jsonl:1: `messages` is empty"),
    ("a.jsonl", "{\"chosen\":\"a\",\"rejected\":\"b\"}", "a.jsonl:1: the pair has no question"),
    (
      "a.jsonl",
      "{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"}],\"chosen\":[{\"role\":\"user\",\"content\":\"a\"}],"
        + "\"rejected\":\"b\"}", "a.jsonl:1: `chosen` holds no turn of the assistant"
    ),
    ("a.jsonl", "{\"messages\":[]}", "a.jsonl:1: `messages` is empty"),
    ("a.jsonl", "{\"messages\":{}}", "a.jsonl:1: `messages` must be a list, it is an object"),
    ("a.jsonl", "{\"messages\":[1]}", "a.jsonl:1: `messages[0]` must be an object, it is an integer"),
    ("a.jsonl", "{\"messages\":[{\"content\":\"\"}]}", "a.jsonl:1: `messages[0]` has no `role`"),
    (
      "a.jsonl", "{\"messages\":[{\"role\":\"human\",\"content\":\"a\"}]}",
      "a.jsonl:1: `messages[0]` has the unknown role 'human' (known: assistant, developer, "
    ),
    ("a.jsonl", "{\"messages\":[{\"role\":\"user\"}]}", "a.jsonl:1: `messages[0]` has no `content`"),
    (
      "a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}",
      "a.jsonl:1: `messages[0]` has content of type 'image'; only text is trained"
    ),
    ("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":1}]}", "a.jsonl:1: `messages[0]`: `content` must be"),
    ("a.jsonl", "{\"conversations\":[{\"value\":\"a\"}]}", "a.jsonl:1: `conversations[0]` has no `from`"),
    (
      "a.jsonl", "{\"conversations\":[{\"from\":\"alien\\n\",\"value\":\"a\"}]}",
      "a.jsonl:1: `conversations[0]` has the unknown role 'alien?' (known: assistant, bard, "
    ),
    ("a.jsonl", "{\"conversations\":[{\"from\":\"gpt\"}]}", "a.jsonl:1: `conversations[0]` has no text in `value`"),
    (
      "a.jsonl", "{\"conversations\":[{\"from\":\"function_call\",\"value\":\"add\"}]}",
      "a.jsonl:1: `conversations[0]` is a function call"
    ),
    ("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":\"x\"}", "a.jsonl:1: `tools` is a"),
    ("a.jsonl", "{\"prompt\":\"a\",\"completion\":null}", "a.jsonl:1: `completion` must be a string, it is null"),
    ("a.json", "[{\"text\":\"a\"},\n{\"text\":\"b\"}", "a.json:2: the file ends before the array is closed"),
    ("a.json", "[{\"text\":\"a\"},\n{\"text\":\"b", "a.json:2: the record has no end"),
    ("a.json", "[{\"text\":\"a\"},\n{\"text\":\"b\\", "a.json:2: the record has no end"),
    ("a.json", "[{\"text\":\"a\"}\n{\"text\":\"b\"}]", "a.json:2: expected a comma between two records"),
    ("a.json", "[{\"text\":\"a\"},,{\"text\":\"b\"}]", "a.json:1: a record is missing between commas"),
    ("a.json", "[{\"text\":\"a\"},]", "a.json:1: a record is missing between commas"),
    ("a.json", "[{\"text\":\"a\"}]\n]", "a.json:2: text after the end of the array"),
    ("a.json", "[", "a.json:1: "),
    ("a.json", "[{\"text\":\"a\"}, {\"text\": nope}]", "a.json:1: column "),
    ("a.json", "{\n  \"text\": \"a\"\n}", "a.json:1: column "),
    ("a.jsonl", "hello", "a.jsonl:1: neither JSON records"),
    ("a.csv", "a,b", "a.csv: the file is empty; it needs at least one record"),
    ("a.csv", "a,a\n1,2", "a.csv:1: two columns have the name 'a'"),
    ("a.csv", "a,b\n1,2", "a.csv:2: the record has the keys 'a', 'b'; expected "),
    ("a.csv", "text,b\n1,2\n\n\"x\ny\",2\n3\n", "a.csv:6: the row has 1 fields, the first row names 2"),
    ("a.csv", "text\n\"a\nb", "a.csv:2: a quoted field has no end"),
    ("a.csv", "text\na\"b\"\n", "a.csv:2: a quote stands where none may"),
    ("a.csv", "text,x\n\"a\"b,c\n", "a.csv:2: a quote stands where none may"),
    ("a.jsonl", String(repeating: "[", count: 100_000), "a.jsonl:1: the record has no end"),
    ("a.jsonl", "{\"text\":" + String(repeating: "[", count: 100_000), "a.jsonl:1: column "),
  ]

  @Test(arguments: failures) func failuresNameFileAndLine(name: String, text: String, message: String) {
    let found = failure(name, Array(text.utf8))
    #expect(found.hasPrefix(message), "\(found)")
    #expect(!found.contains("\n"))
  }

  @Test func bytesThatAreNoText() {
    #expect(failure("a.jsonl", Array("{\"text\":\"".utf8) + [0xFF] + Array("\"}".utf8)).hasPrefix("a.jsonl:1: column"))
    #expect(failure("a.txt", Array("a\nb\n".utf8) + [0xC3] + Array("\nd".utf8)) == "a.txt:3: the text is not UTF-8")
    #expect(failure("a.txt", [0xFF, 0xFE, 0x41, 0]) == "a.txt:1: the text is not UTF-8")
  }

  @Test func missingFiles() {
    #expect(throws: (any Error).self) { try Dataset(paths: ["\(folder.path)/absent.jsonl"]) }
    #expect(throws: (any Error).self) { try Dataset(paths: [folder.path]) }
    #expect(throws: DatasetError.self) { try Dataset(paths: []) }
    #expect(throws: DatasetError.self) { try Dataset(paths: ["/dev/null"]) }
  }

  @Test func longRecordsAreBounded() throws {
    let long = "{\"text\":\"" + String(repeating: "a", count: 5000) + "\"}"
    let lines = try folder.write("long.jsonl", "{\"text\":\"a\"}\n" + long)
    let array = try folder.write("long.json", "[{\"text\":\"a\"},\n" + long + "]")
    for path in [lines, array] {
      let error = #expect(throws: DatasetError.self) {
        try Dataset([DataFile(path: path)], recordLimit: 4096).samples()
      }
      #expect(error?.line == 2)
      #expect(error?.message.hasPrefix("the record is longer than 4096 bytes") == true)
      #expect(try Dataset(paths: [path]).samples().count == 2)
    }
  }
}
