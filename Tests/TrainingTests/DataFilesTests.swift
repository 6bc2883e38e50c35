import CZlib
import CZstd
import Glibc
import JSONValues
import Models
import TestSupport
import Testing

@testable import Training

/// Files as people have them: compressed, in folders, as tables, larger than a buffer.
@Suite struct DataFilesTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func gzip(_ bytes: [UInt8]) -> [UInt8] {
    var stream = z_stream()
    deflateInit2_(
      &stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    defer { deflateEnd(&stream) }
    var input = bytes
    var output = [UInt8](repeating: 0, count: bytes.count + 1000)
    let capacity = output.count
    let count = input.withUnsafeMutableBufferPointer { input in
      output.withUnsafeMutableBufferPointer { output in
        stream.next_in = input.baseAddress
        stream.avail_in = UInt32(input.count)
        stream.next_out = output.baseAddress
        stream.avail_out = UInt32(capacity)
        deflate(&stream, Z_FINISH)
        return capacity - Int(stream.avail_out)
      }
    }
    return Array(output[..<count])
  }

  private func zstd(_ bytes: [UInt8]) -> [UInt8] {
    var output = [UInt8](repeating: 0, count: ZSTD_compressBound(bytes.count))
    let context = ZSTD_createCCtx()
    defer { ZSTD_freeCCtx(context) }
    // As the command-line program does.
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)
    let count = ZSTD_compress2(context, &output, output.count, bytes, bytes.count)
    return Array(output[..<count])
  }

  private func failure(_ paths: [String], format: TrainingConfiguration.DataFormat = .auto) -> String {
    do {
      return "\(try Dataset(paths: paths, options: .init(format: format)).samples().count) samples"
    } catch {
      return "\(error)".replacing("\(folder.path)/", with: "")
    }
  }

  /// Records of many sizes, far more than a buffer takes at once.
  private static let texts: [String] = {
    var random = RandomSource(seed: UInt64(getpid()))
    return (0..<3000).map { index in
      "\(index) " + String(repeating: "größer \"]}\\n ", count: random.next(below: index % 500 == 0 ? 9000 : 30))
    }
  }()

  private static var lines: [UInt8] {
    Array(texts.map { JSONValue.object(["text": .string($0)]).serialized() + "\n" }.joined().utf8)
  }

  @Test func compressedFilesAreTheSame() throws {
    let expected = Self.texts.map { DatasetSample.text($0) }
    let array =
      Array("[\n".utf8) + Self.lines.dropLast().flatMap { $0 == 10 ? Array(",\n".utf8) : [$0] } + Array("]".utf8)
    for (name, bytes) in [("plain.jsonl", Self.lines), ("array.json", array)] {
      for (ending, packed) in [("", bytes), (".gz", gzip(bytes)), (".zst", zstd(bytes))] {
        let dataset = try Dataset(paths: [folder.write(name + ending, packed)])
        #expect(try dataset.samples() == expected, "\(name)\(ending)")
        #expect(dataset.sources[0].compression.rawValue == ["": "none", ".gz": "gzip", ".zst": "zstd"][ending])
      }
    }
    // Several members, as log rotation and parallel compressors leave them; zeros at the end, as tapes do.
    let half = Self.lines.count / 2
    let (first, second) = (Array(Self.lines[..<half]), Array(Self.lines[half...]))
    let members = try folder.write("members.gz", gzip(first) + gzip(second) + [UInt8](repeating: 0, count: 700))
    #expect(try Dataset(paths: [members]).samples() == expected)
    let frames = try folder.write("frames.zst", zstd(first) + zstd(second))
    #expect(try Dataset(paths: [frames]).samples() == expected)
  }

  @Test func damagedCompressionIsAnError() throws {
    for (name, packed) in [("gzip", gzip(Self.lines)), ("zstd", zstd(Self.lines))] {
      let cut = try folder.write("cut", Array(packed.dropLast(packed.count / 3)))
      #expect(failure([cut]) == "cut: the \(name) data ends in the middle; fetch the file again")
      var damaged = packed
      for place in (packed.count / 2)..<(packed.count / 2 + 40) { damaged[place] = 0xFF }
      let path = try folder.write("damaged", damaged)
      // What comes first: text that is no record, or a checksum that is not right.
      #expect(failure([path]).hasPrefix("damaged:"))
    }
    #expect(failure([try folder.write("tiny", [0x1F, 0x8B])]).hasPrefix("tiny: the gzip data ends in the middle"))
  }

  @Test func foldersPatternsAndWeights() throws {
    try folder.makeFolder("set")
    try folder.makeFolder("set/part")
    for name in ["set/b.jsonl", "set/a.jsonl", "set/part/c.ndjson", "set/.hidden.jsonl", "set/notes.md"] {
      _ = try folder.write(name, "{\"text\":\"\(name)\"}")
    }
    func names(_ paths: String...) throws -> [String] {
      try DataFile.expand(paths.map { "\(folder.path)/\($0)" }).map { file in
        file.path.replacing("\(folder.path)/", with: "") + (file.weight == 1 ? "" : " × \(file.weight)")
      }
    }
    #expect(try names("set") == ["set/a.jsonl", "set/b.jsonl", "set/part/c.ndjson"])
    #expect(
      try names("set@0.5", "set/a.jsonl") == [
        "set/a.jsonl × 0.5", "set/b.jsonl × 0.5", "set/part/c.ndjson × 0.5", "set/a.jsonl",
      ])
    #expect(try names("set/{a,b}.jsonl@3") == ["set/a.jsonl × 3.0", "set/b.jsonl × 3.0"])
    #expect(try names("set/*/c.*") == ["set/part/c.ndjson"])
    try folder.makeFolder("set/part/[odd]")
    _ = try folder.write("set/part/[odd]/d.jsonl", "{\"text\":\"d\"}")
    #expect(try names("set/**/*.jsonl") == ["set/a.jsonl", "set/b.jsonl", "set/part/[odd]/d.jsonl"])
    #expect(
      try names("set/**/{c,d}.*@2", "s*/**/part/**/d.jsonl") == [
        "set/part/c.ndjson × 2.0", "set/part/[odd]/d.jsonl × 2.0", "set/part/[odd]/d.jsonl",
      ])
    #expect(try names("set/part/**") == ["set/part/c.ndjson", "set/part/[odd]/d.jsonl"])
    TemporaryFolder.removeAll("\(folder.path)/set/part/[odd]")
    _ = try folder.write("odd@2", "{\"text\":\"a\"}")
    #expect(try names("odd@2") == ["odd@2"])
    _ = try folder.write("[odd].jsonl", "{\"text\":\"a\"}")
    #expect(try names("[odd].jsonl") == ["[odd].jsonl"])
    try folder.makeFolder("empty")
    #expect(failure(["\(folder.path)/empty"]).hasPrefix("empty: the folder holds no data file (.jsonl, "))
    #expect(failure(["\(folder.path)/**/*.x"]) == "**/*.x: no file matches this pattern")
    #expect(failure(["\(folder.path)/*.x"]) == "*.x: no file matches this pattern")
    #expect(failure(["\(folder.path)/absent.jsonl"]) == "absent.jsonl: there is no such file or folder")
    #expect(failure(["\(folder.path)/set/a.jsonl@-1"]).hasSuffix("a weight is a number above 0 and up to 1000"))
  }

  @Test func tables() throws {
    let text = "\u{FEFF}instruction,output,extra\r\n\"Say \"\"hi\"\",\nplease\",Hi.,\r\nÄ,\"\",x\r\n"
    let dataset = try Dataset(paths: [folder.write("a.csv", text)])
    let samples = try dataset.samples()
    #expect(samples.count == 2)
    guard case .instruction(let first) = samples[0], case .instruction(let second) = samples[1] else { return }
    #expect(first.instruction == "Say \"hi\",\nplease" && first.output == "Hi.")
    #expect(second.instruction == "Ä" && second.output == "")
    #expect(dataset.description.hasSuffix("a.csv: Alpaca (instruction/input/output), CSV (not used: 'extra')"))
    let tabs = try folder.write("a.tsv", "prompt\tcompletion\na, b\t\"c\"\n")
    #expect(try Dataset(paths: [tabs]).samples() == [.completion(prompt: "a, b", completion: "c")])
    let chats = try folder.write(
      "chats.csv", "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"Hi\"\"}]\"\n")
    #expect(
      try Dataset(paths: [chats]).samples() == [
        .conversation(messages: [["role": "user", "content": "Hi"]], tools: nil)
      ])
  }

  @Test func fieldsAndFormats() throws {
    func samples(_ text: String, _ fields: [String], _ format: TrainingConfiguration.DataFormat = .auto) throws
      -> [DatasetSample]
    {
      try Dataset(
        paths: [folder.write("a.jsonl", text)], options: .init(format: format, fields: FieldMapping(fields))
      ).samples()
    }
    let question = #"{"question": "Q", "answer": "A", "text": "T"}"#
    #expect(
      try samples(question, ["prompt=question", "completion=answer"]) == [
        .completion(prompt: "Q", completion: "A")
      ])
    #expect(try samples(question, [], .text) == [.text("T")])
    #expect(
      try samples(question, ["instruction=question", "output=answer"]) == [
        .instruction(.init(system: nil, instruction: "Q", input: "", output: "A"))
      ])
    // Names swapped, and names within messages.
    #expect(
      try samples(question, ["question=answer", "answer=question"])
        == samples(
          #"{"question": "A", "answer": "Q"}"#, []))
    let chat: [DatasetSample] = [.conversation(messages: [["role": "user", "content": "Hi"]], tools: nil)]
    #expect(
      try samples(
        #"{"dialog": [{"speaker": "user", "say": "Hi"}]}"#, ["messages=dialog", "role=speaker", "content=say"]) == chat)
    #expect(try samples(#"{"conversations": [{"role": "user", "content": "Hi"}]}"#, [], .messages) == chat)
    func message(_ body: () throws -> [DatasetSample]) -> String {
      do { return "\(try body())" } catch { return "\(error)".replacing("\(folder.path)/", with: "") }
    }
    #expect(
      message { try samples(question, ["instruction=quest"]) }
        == "a.jsonl:1: the record has no `quest` (--field instruction=quest); its keys are 'question', 'answer', 'text'"
    )
    #expect(message { try samples(question, [], .alpaca) } == "a.jsonl:1: `instruction` is missing")
    #expect(
      message { try samples(question, ["instruct=question"]) }.hasPrefix("field: no format reads 'instruct'; NAME"))
    #expect(message { try samples(question, ["question"]) }.hasPrefix("field: \"question\" is not NAME=KEY"))
    #expect(message { try samples(question, ["text=a", "text=b"]) } == "field: \"text\" is given twice")
  }

  @Test func preferencePairs() throws {
    let (user, good, bad): (JSONValue, JSONValue, JSONValue) = (
      ["role": "user", "content": "Q"], ["role": "assistant", "content": "A"], ["role": "assistant", "content": "B"]
    )
    let expected = DatasetSample.preference(.conversation(prompt: [user], chosen: [good], rejected: [bad], tools: nil))
    let lines = [
      #"{"conversations":[{"from":"human","value":"Q"}],"chosen":{"from":"gpt","value":"A"},"rejected":{"from":"gpt","value":"B"}}"#,
      #"{"prompt":[{"role":"user","content":"Q"}],"chosen":[{"role":"assistant","content":"A"}],"rejected":[{"role":"assistant","content":"B"}]}"#,
      #"{"chosen":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}],"rejected":[{"role":"user","content":"Q"},{"role":"assistant","content":"B"}]}"#,
      #"{"prompt":"Q","chosen":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}],"rejected":[{"role":"user","content":"Q"},{"role":"assistant","content":"B"}]}"#,
      #"{"messages":[{"role":"user","content":"Q"}],"chosen":"A","rejected":"B"}"#,
      #"{"question":"Q","chosen":"A","rejected":"B"}"#,
      #"{"instruction":"Q","input":"","chosen":"A","rejected":"B"}"#,
    ]
    for line in lines {
      let dataset = try Dataset(paths: [folder.write("a.jsonl", line)])
      #expect(try dataset.samples() == [expected], "\(line)")
      #expect(dataset.sources[0].format == .preference)
    }
    let text = try folder.write("b.jsonl", #"{"prompt":"Q","chosen":"A","rejected":"B"}"#)
    #expect(try Dataset(paths: [text]).samples() == [.preference(.completion(prompt: "Q", chosen: "A", rejected: "B"))])
    let system = try folder.write("c.jsonl", #"{"system":"S","question":"Q","chosen":"A","rejected":"B"}"#)
    guard case .preference(.conversation(let prompt, _, _, _))? = try Dataset(paths: [system]).samples().first else {
      Issue.record("no pair")
      return
    }
    #expect(prompt == [["role": "system", "content": "S"], user])
  }

  @Test func textsComeInPieces() throws {
    let text = (0..<500).map { "Zeile \($0), größer\n" }.joined() + "Ende"
    let path = try folder.write("a.txt", text)
    for pieceBytes in [7, 100, 1000, 1 << 20] {
      let samples = try Dataset([DataFile(path: path)], pieceBytes: pieceBytes).samples()
      var joined = ""
      for (index, sample) in samples.enumerated() {
        guard case .document(let piece, let continues, let isContinued) = sample else { continue }
        #expect(continues == (index > 0) && isContinued == (index < samples.count - 1))
        joined += piece
      }
      #expect(joined == text)
      #expect(pieceBytes > text.utf8.count || samples.count > text.utf8.count / pieceBytes / 2)
    }
    #expect(failure([try folder.write("page", "Hello")], format: .text) == "1 samples")
    var broken = Array(text.utf8)
    broken[broken.count - 3] = 0xFF
    #expect(failure([try folder.write("broken.txt", broken)]) == "broken.txt:501: the text is not UTF-8")
  }
}

/// Sets of real data, which are not ours to ship.
private let sets = getenv("SWIFTLET_DATA_SETS").map { String(cString: $0) }

@Suite(.enabled(if: sets != nil, "SWIFTLET_DATA_SETS names no folder with sets of data"))
struct RealSetTests {
  @Test(arguments: [
    ("fastchat_dummy_conversation.json", 500, DatasetFormat.shareGPT), ("gsm8k_train.jsonl", 7473, .questionAnswer),
    ("llamafactory_alpaca_en_demo.json", 999, .alpaca), ("llamafactory_dpo_en_demo.json", 300, .preference),
    ("llamafactory_glaive_toolcall_en_demo.json", 300, .shareGPT), ("torchtune_alpaca_tiny.json", 100, .alpaca),
    ("tinyshakespeare.txt", 1, .document), ("wikitext2_valid.txt", 1, .document),
  ])
  func everySampleIsRead(name: String, count: Int, format: DatasetFormat) throws {
    let dataset = try Dataset(paths: ["\(sets ?? "")/\(name)"])
    #expect(dataset.sources[0].format == format)
    #expect(try dataset.samples().count == count)
    if name.contains("glaive") {
      let calls = try dataset.samples().filter { sample in
        guard case .conversation(let messages, let tools) = sample else { return false }
        return tools != nil && messages.array?.contains { $0["tool_calls"]?[0]?["function"]?["name"] != nil } ?? false
      }
      #expect(calls.count > 50)
    }
  }
}
