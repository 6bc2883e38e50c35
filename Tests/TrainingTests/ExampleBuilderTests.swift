import CPUDevice
import Glibc
import JSONValues
import ModelFiles
import Models
import TestSupport
import Testing

@testable import Training

/// What becomes of samples on their way to examples.
@Suite struct ExampleBuilderTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func tokenized(_ text: String, _ options: TokenizedDataset.Options = .init(), name: String = "a.jsonl")
    throws -> TokenizedDataset
  {
    try TokenizedDataset(Dataset(paths: [folder.write(name, text)]), encoder: ByteEncoder(), options: options)
  }

  private func chat(_ turns: (String, String)...) -> String {
    let messages = turns.map { JSONValue.object(["role": .string($0.0), "content": .string($0.1)]) }
    return JSONValue.object(["messages": .array(messages)]).serialized() + "\n"
  }

  /// Two turns of the assistant: tokens 0 to 6 and 7 to 12, then the end of the second at 13.
  private var twoTurns: String { chat(("user", "ab"), ("assistant", "cd"), ("user", "ef"), ("assistant", "gh")) }

  @Test func aCutKeepsWholeTurns() throws {
    for limit in 7...12 {
      let data = try tokenized(twoTurns, .init(maxSequenceLength: limit))
      #expect(data.lengths == [7] && data.counts.truncated == 1 && data.counts.cutWithinTurn == 0)
      #expect(try data.tokens(ofExample: 0).ids.last == 3)
    }
    #expect(try tokenized(twoTurns, .init(maxSequenceLength: 13)).counts.truncated == 0)
    // Not even the first turn fits: what there is room for.
    let within = try tokenized(twoTurns, .init(maxSequenceLength: 6))
    #expect(within.lengths == [6] && within.counts.cutWithinTurn == 1)
    // With everything trained, a cut still keeps turns whole.
    #expect(try tokenized(twoTurns, .init(maxSequenceLength: 9, trainOn: .all)).lengths == [7])
  }

  @Test func longSamplesAreLeftOutOrSplit() throws {
    let lines = twoTurns + chat(("user", "a"), ("assistant", "b"))
    let dropped = try tokenized(lines, .init(maxSequenceLength: 12, longSamples: .drop))
    #expect(dropped.lengths == [5] && dropped.counts.tooLong == 1 && dropped.counts.samples == 2)
    #expect(dropped.description.hasSuffix("1 left out (longer than 12 tokens)"))
    let split = try tokenized(lines, .init(maxSequenceLength: 12, longSamples: .split))
    #expect(split.lengths == [7, 6, 5] && split.counts.split == 1 && split.counts.examples == 3)
    #expect(split.description.contains("1 split into pieces of 12 tokens"))
    let error = #expect(throws: DatasetError.self) {
      try tokenized(twoTurns, .init(maxSequenceLength: 12, longSamples: .drop))
    }
    #expect(error?.message.hasPrefix("nothing to train on: 1 of 1 samples are longer than 12 tokens") == true)
  }

  /// Whatever the limit, splitting trains every token exactly once.
  @Test func splittingTrainsEveryTokenOnce() throws {
    let long = chat(
      ("user", "abcdefghij"), ("assistant", "klmnopqrstuvwxyz"), ("user", "0123"), ("assistant", "456789ABCDEFGHIJ"))
    let whole = try tokenized(long)
    let wanted = try whole.batch(of: [0]).targets.filter { $0 >= 0 }
    for limit in 2...whole.lengths[0] {
      let data = try tokenized(long, .init(maxSequenceLength: limit, longSamples: .split))
      #expect(data.lengths.allSatisfy { $0 <= limit })
      #expect(try data.batch(of: 0..<data.count).targets.filter { $0 >= 0 } == wanted, "limit \(limit)")
    }
  }

  @Test func textsInPiecesGiveTheSameWindows() throws {
    let text = (0..<200).map { "line \($0)\n" }.joined()
    let path = try folder.write("a.txt", text)
    for limit in [2, 3, 17, 64, 5000] {
      let whole = try TokenizedDataset(
        Dataset([DataFile(path: path)]), encoder: ByteEncoder(), options: .init(maxSequenceLength: limit))
      let pieces = try TokenizedDataset(
        Dataset([DataFile(path: path)], pieceBytes: 50), encoder: ByteEncoder(),
        options: .init(maxSequenceLength: limit, threads: 3))
      #expect(whole.fingerprint == pieces.fingerprint && whole.counts == pieces.counts)
    }
  }

  @Test func pairsStayTogether() throws {
    let lines = """
      {"question":"ab","chosen":"c","rejected":"defg"}
      {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],\
      "chosen":"d","rejected":"e"}
      {"prompt":"xy","chosen":"z","rejected":"w"}
      """
    let data = try tokenized(lines, .init(pairs: true))
    #expect(data.count == 3 && data.counts.examples == 3)
    #expect(data.lengths == [6 + 9, 9 + 9, 5 + 5])
    let batch = try data.batch(of: [1, 0])
    #expect(batch.documents == [0..<9, 9..<18, 18..<24, 24..<33])
    // Only the answers are trained, not what the assistant said before; the better answer comes first.
    #expect(batch.targets[0..<9].filter { $0 >= 0 } == [100, 3])
    #expect(batch.targets[9..<18].filter { $0 >= 0 } == [101, 3])
    #expect(batch.targets[18..<24].filter { $0 >= 0 } == [99, 3])
    var error = #expect(throws: DatasetError.self) { try tokenized(lines) }
    #expect(error?.line == 1 && error?.message.hasPrefix("the sample is a preference pair") == true)
    error = #expect(throws: DatasetError.self) { try tokenized(twoTurns, .init(pairs: true)) }
    #expect(error?.message.hasPrefix("the sample has one answer") == true)
    // A pair is cut, or left out, as one.
    #expect(try tokenized(lines, .init(maxSequenceLength: 8, longSamples: .drop, pairs: true)).counts.tooLong == 2)
    let cut = try tokenized(lines, .init(maxSequenceLength: 8, pairs: true))
    #expect(cut.counts.truncated == 2 && cut.counts.cutWithinTurn == 2 && cut.lengths == [6 + 8, 8 + 8, 10])
  }

  @Test func oddSamplesAreTold() throws {
    let lines =
      twoTurns + chat(("user", "a"), ("assistant", " ")) + twoTurns + "{\"prompt\":\"q\",\"completion\":\"\"}\n"
    let path = try folder.write("b.jsonl", twoTurns + chat(("user", "a"), ("assistant", " ")) + twoTurns)
    let data = try tokenized(String(lines.split(separator: "\n").prefix(3).joined(separator: "\n")), name: "b.jsonl")
    #expect(
      data.remarks == [
        DataRemark(kind: .emptyAnswer, count: 1, path: path, line: 2),
        DataRemark(kind: .duplicate, count: 1, path: path, line: 3),
      ])
    #expect(
      data.remarks[0].description
        == "1 sample with an empty turn of the assistant (first: \(path):2); they teach the model to say nothing")
    let error = #expect(throws: DatasetError.self) {
      try tokenized(String(lines.split(separator: "\n").prefix(3).joined(separator: "\n")), .init(strict: true))
    }
    #expect(error?.line == 2 && error?.message.hasPrefix("a sample with an empty turn of the assistant") == true)
    let empty = try tokenized("{\"prompt\":\"q\",\"completion\":\"\"}\n")
    #expect(empty.remarks.map(\.kind) == [.emptyAnswer])
  }

  @Test func tokensSpillOntoTheDisk() throws {
    var (memory, disk) = (TokenStoreWriter(), TokenStoreWriter(memoryLimit: 100))
    var random = RandomSource(seed: 9)
    for _ in 0..<50 {
      let ids = (0..<random.next(below: 40)).map { _ in Int32(random.next(below: 1 << 30)) }
      let mask = ids.map { _ in random.next(below: 2) == 1 }
      try memory.append(ids[...], mask[...])
      try disk.append(ids[...], mask[...])
    }
    let (one, other) = (try memory.finish(), try disk.finish())
    #expect(one.count == other.count && one.count > 300)
    for range in [0..<one.count, 0..<1, 99..<205, one.count - 1..<one.count, 7..<7] {
      #expect(try one.read(range) == other.read(range))
    }
  }
}

/// An encoder whose tokens may be kept.
private struct KeptEncoder: ExampleEncoder {
  let plain = ByteEncoder()
  var version: UInt8 = 0
  var endOfText: Int32? { plain.endOfText }
  var hasChatTemplate: Bool { true }
  var fingerprint: [UInt8]? { [version] }
  func tokens(of text: String, opens: Bool) -> [Int32] { plain.tokens(of: text, opens: opens) }
  func tokens(of messages: JSONValue, tools: JSONValue?) throws -> ConversationTokens {
    try plain.tokens(of: messages, tools: tools)
  }
}

@Suite struct TokenCacheTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private var cache: TokenCache { TokenCache(folder: "\(folder.path)/cache/datasets") }

  private func entries() -> [String] { Folders.names(in: cache.folder) }

  /// A little more than what is worth keeping, with a duplicate.
  private func write(_ name: String, _ more: String = "") throws -> String {
    let text = String(repeating: "x", count: 1000)
    let lines = (0..<1100).map { "{\"text\":\"\($0 / 2 * 2 == 8 ? 8 : $0) \(text)\"}\n" }.joined()
    return try folder.write(name, lines + more)
  }

  private func make(_ path: String, version: UInt8 = 0, _ options: TokenizedDataset.Options = .init()) throws
    -> TokenizedDataset
  {
    try TokenizedDataset.cached(
      Dataset(paths: [path]), encoder: KeptEncoder(version: version), options: options, cache)
  }

  @Test func theSecondRunFindsWhatTheFirstMade() throws {
    let path = try write("a.jsonl")
    let made = try make(path)
    #expect(entries().count == 1)
    // From elsewhere and with another weight, the same bytes are the same data.
    let moved = try write("b.jsonl")
    let found = try make(moved + "@2")
    #expect(entries().count == 1)
    #expect(found.fingerprint == made.fingerprint && found.counts == made.counts && found.lengths == made.lengths)
    #expect(try found.batch(of: 0..<1100) == made.batch(of: 0..<1100))
    #expect(found.sources == [.init(path: moved, count: 1100, weight: 2)])
    #expect(found.remarks == [DataRemark(kind: .duplicate, count: 1, path: moved, line: 10)])
    // Whatever could make other tokens makes another entry.
    _ = try make(path, version: 1)
    _ = try make(path, .init(maxSequenceLength: 100))
    _ = try make(path, .init(trainOn: .all))
    _ = try make(write("c.jsonl", "{\"text\":\"more\"}\n"))
    #expect(entries().count == 5)
    // What is small is not kept.
    _ = try make(folder.write("small.jsonl", "{\"text\":\"a\"}"))
    #expect(entries().count == 5)
  }

  @Test func damageIsNoticed() throws {
    let path = try write("a.jsonl")
    let made = try make(path)
    let entry = "\(cache.folder)/\(try #require(entries().first))"
    let whole = try #require(TemporaryFolder.bytes(of: entry))
    var random = RandomSource(seed: 5)
    let sizes = [0, 3, 47, 48, whole.count / 2, whole.count - 4, whole.count - 1]
    var damaged = sizes.map { Array(whole[..<$0]) } + [whole + [0, 0, 0, 0]]
    for region in [0..<whole.count, whole.count - 9400..<whole.count, whole.count - 48..<whole.count] {
      for _ in 0..<12 {
        var bytes = whole
        bytes[region.lowerBound + random.next(below: region.count)] ^= UInt8(1 + random.next(below: 255))
        damaged.append(bytes)
      }
    }
    for bytes in damaged {
      _ = try folder.write("cache/datasets/" + entry.split(separator: "/").suffix(1).joined(), bytes)
      #expect(
        cache.load(String(entry.split(separator: "/").last?.dropLast(7) ?? ""), try Dataset(paths: [path]), .init())
          == nil)
      // The damaged entry is gone, and made anew.
      #expect(entries().isEmpty)
      let again = try make(path)
      #expect(again.fingerprint == made.fingerprint)
      #expect(TemporaryFolder.bytes(of: entry) == whole)
    }
  }

  @Test func aCacheThatCannotBeWrittenIsNoReasonToStop() throws {
    let path = try write("a.jsonl")
    _ = try folder.write("cache", "a file")
    #expect(try make(path).count == 1100)
  }
}

/// Packed documents do not see one another: the loss is the same however they are laid.
@Suite struct PackingTests {
  @Test func lossesAreEqualWithAndWithoutPacking() throws {
    let folder = try TemporaryFolder()
    let modelFolder = try TemporaryFolder()
    try TinyModel(changing: ["vocab_size": 128]).write(to: modelFolder)
    var random = RandomSource(seed: UInt64(getpid()))
    let lines = (0..<60).map { _ in
      let (prompt, answer) = (random.next(below: 20), 1 + random.next(below: 30))
      return "{\"prompt\":\"\(String(repeating: "pq", count: prompt))\",\"completion\":\""
        + (0..<answer).map { _ in String(UnicodeScalar(UInt8(97 + random.next(below: 26)))) }.joined() + "\"}\n"
    }.joined()
    let path = try folder.write("a.jsonl", lines)
    let data = try TokenizedDataset(
      Dataset(paths: [path]), encoder: ByteEncoder(), options: .init(maxSequenceLength: 80))
    let model = try LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32))
    func loss(_ options: BatchSchedule.Options) throws -> Double {
      let source = BatchSource(data, options: options)
      try model.reserve(tokens: source.schedule.mostTokens)
      var (loss, tokens) = (0.0, 0)
      for batch in source.schedule.epoch(0).microBatches {
        let batch = try data.batch(of: batch)
        loss += try model.evaluate(batch)
        tokens += batch.trainedTokenCount
      }
      #expect(tokens == data.counts.trainedTokens)
      return loss / Double(tokens)
    }
    let alone = try loss(.init(batchSize: 1))
    #expect(alone > 1)
    for options: BatchSchedule.Options in [
      .init(batchSize: 4), .init(batchSize: 1, packing: true), .init(batchSize: 3, packing: true),
      .init(batchTokens: 200),
    ] {
      #expect(abs(try loss(options) / alone - 1) < 1e-5)
    }
  }

  /// Conversation lengths as on ShareGPT: many short ones and a long tail.
  private static func lengths(_ count: Int) -> [Int] {
    var random = RandomSource(seed: 11)
    return (0..<count).map { _ in
      let normal = (0..<12).reduce(-6.0) { sum, _ in sum + random.uniform() }
      return min(2048, max(8, Int(exp(5.6 + 1.1 * normal))))
    }
  }

  @Test func batchesHaveEqualNumbersOfTokens() {
    let lengths = Self.lengths(3000)
    let schedule = BatchSchedule(lengths: lengths, options: .init(batchTokens: 4096))
    for number in 0..<3 {
      let batches = schedule.epoch(number).microBatches
      #expect(batches.joined().sorted() == Array(0..<3000))
      let tokens = batches.map { $0.reduce(0) { $0 + lengths[$1] } }
      #expect(tokens.allSatisfy { $0 <= 4096 && $0 <= schedule.mostTokens })
      // No batch is short of the fullest by more than two in a hundred.
      #expect((tokens.min() ?? 0) * 100 >= 98 * (tokens.max() ?? 0))
    }
    #expect(BatchSchedule(lengths: [], options: .init(batchTokens: 100)).stepsPerEpoch == 0)
    // An example longer than a batch is one by itself.
    let long = BatchSchedule(lengths: [500, 3, 4], options: .init(batchTokens: 100))
    #expect(long.epoch(0).microBatches.map(\.count).sorted() == [1, 2] && long.mostTokens == 500)
  }

  @Test(arguments: [BatchSchedule.Options(batchSize: 3), .init(batchSize: 1, packing: true), .init(batchTokens: 3000)])
  func weightsDecideHowOftenAnEpochSeesAnExample(options: BatchSchedule.Options) {
    let lengths = Self.lengths(700)
    let parts = [
      BatchSchedule.Part(count: 100, weight: 2), .init(count: 400, weight: 0.25), .init(count: 200, weight: 1.5),
    ]
    let schedule = BatchSchedule(lengths: lengths, options: options, parts: parts)
    var drawn: [Set<Int>] = []
    for number in 0..<4 {
      let order = schedule.epoch(number).microBatches.joined()
      #expect(order.count == 200 + 100 + 300)
      let seen = Dictionary(order.map { ($0, 1) }, uniquingKeysWith: +)
      #expect((0..<100).allSatisfy { seen[$0] == 2 })
      #expect((500..<700).allSatisfy { seen[$0] == 1 || seen[$0] == 2 })
      drawn.append(Set((100..<500).filter { seen[$0] == 1 }))
      #expect(drawn[number].count == 100)
    }
    #expect(drawn[0] != drawn[1] && drawn[1] != drawn[2])
    // Every step of the run lies in one epoch, and a resumed run finds it.
    let total = schedule.totalSteps(epochs: 3)
    var steps: [[[Int]]] = []
    for step in 0..<total {
      let position = schedule.position(ofStep: step)
      steps.append(Array(schedule.epoch(position.epoch).microBatches(ofStep: position.step)))
      #expect(!steps[step].isEmpty)
    }
    #expect(steps.joined().joined().count == 3 * 600)
    let resumed = BatchSchedule(lengths: lengths, options: options, parts: parts)
    for step in [total - 1, 0, total / 2] {
      let position = resumed.position(ofStep: step)
      #expect(Array(resumed.epoch(position.epoch).microBatches(ofStep: position.step)) == steps[step])
    }
  }
}
