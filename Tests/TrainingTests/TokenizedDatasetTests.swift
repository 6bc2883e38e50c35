import JSONValues
import Models
import TestSupport
import Testing

@testable import Training

/// A tokenizer of bytes: 1 opens a text, 2 ends it, 3 ends a turn; a turn of the assistant is a response.
struct ByteEncoder: ExampleEncoder {
  var hasChatTemplate = true
  var endOfText: Int32? { 2 }

  func tokens(of text: String, opens: Bool) -> [Int32] { (opens ? [1] : []) + text.utf8.map { Int32($0) } }

  func tokens(of messages: JSONValue, tools: JSONValue?) throws -> ConversationTokens {
    var (ids, isResponse): ([Int32], [Bool]) = ([1], [false])
    for message in messages.array ?? [] {
      if message["content"] == "bad" { throw FormatProblem("the template refuses it") }
      let turn = tokens(of: message["content"]?.string ?? "", opens: false) + [3]
      ids += turn
      isResponse += turn.map { _ in message["role"] == "assistant" }
    }
    return ConversationTokens(ids: ids, isResponse: isResponse)
  }
}

@Suite struct TokenizedDatasetTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func tokenized(
    _ name: String, _ text: String, _ options: TokenizedDataset.Options = .init(), template: Bool = true
  ) throws -> TokenizedDataset {
    let dataset = try Dataset(paths: [folder.write(name, text)])
    return try TokenizedDataset(dataset, encoder: ByteEncoder(hasChatTemplate: template), options: options)
  }

  @Test func responsesAreTrained() throws {
    let line = #"{"messages":[{"role":"user","content":"ab"},{"role":"assistant","content":"c"}]}"#
    let data = try tokenized("a.jsonl", line)
    #expect(data.count == 1)
    #expect(try data.tokens(ofExample: 0).ids == [1, 97, 98, 3, 99, 3])
    #expect(try data.tokens(ofExample: 0).isTrained == [false, false, false, false, true, true])
    let batch = try data.batch(of: [0, 0])
    #expect(batch.tokens == [1, 97, 98, 3, 99, 3, 1, 97, 98, 3, 99, 3])
    #expect(batch.targets == [-1, -1, -1, 99, 3, -1, -1, -1, -1, 99, 3, -1])
    #expect(batch.positions == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5])
    #expect(batch.documents == [0..<6, 6..<12])
    #expect(batch.trainedTokenCount == 4)
    let all = try tokenized("a.jsonl", line, .init(trainOn: .all))
    #expect(try all.batch(of: [0]).targets == [97, 98, 3, 99, 3, -1])
    #expect(all.counts.trainedTokens == 5)
    #expect(all.fingerprint != data.fingerprint)
  }

  @Test func textsAreTrainedWhole() throws {
    let data = try tokenized("a.jsonl", "{\"text\":\"ab\"}\n{\"text\":\"\"}")
    #expect(try data.batch(of: [0]).targets == [97, 98, 2, -1])
    #expect(try data.batch(of: [1]).targets == [2, -1])
    let pair = try tokenized("b.jsonl", #"{"prompt":"ab","completion":"c"}"#)
    #expect(try pair.tokens(ofExample: 0).ids == [1, 97, 98, 99, 2])
    #expect(try pair.batch(of: [0]).targets == [-1, -1, 99, 2, -1])
  }

  @Test func alpacaHasAPromptOfItsOwn() throws {
    let line = #"{"instruction":"a","output":"b"}"#
    #expect(try tokenized("a.jsonl", line).lengths == [5])
    let plain = try tokenized("a.jsonl", line, template: false)
    #expect(try plain.batch(of: [0]).trainedTokenCount == 2)
    #expect(plain.lengths[0] > 100)
    let error = #expect(throws: DatasetError.self) {
      try tokenized("b.jsonl", #"{"messages":[{"role":"user","content":"a"}]}"#, template: false)
    }
    #expect(error?.message.hasPrefix("the model has no chat template") == true && error?.line == 1)
  }

  @Test func everyTokenOfADocumentIsPredictedOnce() throws {
    let text = "abcdefghijk"
    let whole: [Int32] = [1] + text.utf8.map { Int32($0) } + [2]
    for limit in [2, 3, 4, 12, 13, 14, 100] {
      let data = try tokenized("a.txt", text, .init(maxSequenceLength: limit))
      #expect(data.lengths.allSatisfy { $0 >= 2 && $0 <= limit })
      let batch = try data.batch(of: 0..<data.count)
      #expect(batch.targets.filter { $0 >= 0 } == Array(whole.dropFirst()))
      #expect(data.counts.truncated == 0)
    }
  }

  @Test func longSamplesAreCutAndCounted() throws {
    let lines = """
      {"prompt":"ab","completion":"cdefgh"}
      {"prompt":"abcdefgh","completion":"c"}
      {"prompt":"a","completion":"c"}
      """
    let data = try tokenized("a.jsonl", lines, .init(maxSequenceLength: 5))
    #expect(data.lengths == [5, 4])
    #expect(data.counts.samples == 3 && data.counts.truncated == 2)
    #expect(data.counts.cutBeforeResponse == 1 && data.counts.dropped == 1)
    #expect(data.counts.tokens == 9 && data.counts.longest == 5)
    #expect(
      data.description
        == "2 examples, 9 tokens, 4 trained; 2 cut to 5 tokens (1 within a turn); 1 left out (cut before the first trained token)"
    )
    let error = #expect(throws: DatasetError.self) {
      try tokenized("a.jsonl", lines, .init(maxSequenceLength: 9, strict: true))
    }
    #expect(error?.line == 1)
    #expect(error?.message == "the sample has 10 tokens, the limit (--max-seq-length) is 9")
  }

  @Test func nothingLeftSaysWhy() throws {
    let question = #"{"messages":[{"role":"user","content":"ab"}]}"#
    var error = #expect(throws: DatasetError.self) { try tokenized("a.jsonl", question) }
    #expect(error?.message == "nothing to train on: the 1 samples have no response of the assistant")
    let long = #"{"prompt":"abcdef","completion":"c"}"#
    error = #expect(throws: DatasetError.self) { try tokenized("a.jsonl", long, .init(maxSequenceLength: 4)) }
    #expect(error?.message.hasPrefix("nothing to train on: 1 of 1 samples are cut before their first") == true)
    #expect(error?.message.hasSuffix("raise --max-seq-length (4)") == true)
  }

  @Test(arguments: [1, 2, 5]) func threadsChangeNothing(threads: Int) throws {
    let lines = (0..<1000).map { "{\"text\":\"\(String(repeating: "x", count: $0 % 37)) \($0)\"}" }
    let text = lines.joined(separator: "\n")
    let one = try tokenized("a.jsonl", text)
    let many = try tokenized("a.jsonl", text, .init(threads: threads))
    #expect(one.fingerprint == many.fingerprint)
    let bad = #"{"messages":[{"role":"user","content":"bad"}]}"#
    let good = #"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#
    let mixed = (0..<400).map { $0 == 123 || $0 == 124 || $0 == 300 ? bad : good }.joined(separator: "\n")
    let error = #expect(throws: DatasetError.self) { try tokenized("b.jsonl", mixed, .init(threads: threads)) }
    #expect(error?.line == 124)
    #expect(error?.message == "the template refuses it")
  }

  @Test func checksums() {
    func checksum(_ text: String) -> String {
      var crc = CRC32()
      Array(text.utf8).withUnsafeBytes { crc.update($0) }
      return crc.hexadecimal
    }
    #expect(checksum("") == "00000000")
    #expect(checksum("123456789") == "cbf43926")
    #expect(checksum("The quick brown fox jumps over the lazy dog") == "414fa339")
  }
}

@Suite struct BatchSourceTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  @Test(arguments: [false, true]) func anEpochTrainsEveryTokenOnce(packing: Bool) throws {
    let lines = (0..<100).map { "{\"prompt\":\"\(String(repeating: "p", count: $0 % 13))\",\"completion\":\"\($0)\"}" }
    let dataset = try Dataset(paths: [folder.write("a.jsonl", lines.joined(separator: "\n"))])
    var configuration = TrainingConfiguration(model: "m", data: "d")
    configuration.packing = packing
    configuration.maxSequenceLength = 32
    let examples = try TokenizedDataset(dataset, encoder: ByteEncoder(), options: .init(configuration))
    var source = BatchSource(examples, options: .init(configuration))
    var whole: [[PackedBatch]] = []
    for step in 0..<2 * source.schedule.stepsPerEpoch {
      whole.append(try source.microBatches(ofStep: step))
      #expect(whole[step].allSatisfy { $0.trainedTokenCount > 0 && $0.tokens.count <= 64 })
    }
    let first = whole[..<source.schedule.stepsPerEpoch].joined()
    #expect(first.reduce(0) { $0 + $1.tokens.count } == examples.counts.tokens)
    #expect(first.reduce(0) { $0 + $1.trainedTokenCount } == examples.counts.trainedTokens)
    var resumed = BatchSource(examples, options: .init(configuration))
    for step in [whole.count - 1, 0, whole.count / 2] { #expect(try resumed.microBatches(ofStep: step) == whole[step]) }
  }
}
