import CommandLineParsing
import Doctor
import Glibc
import JSONValues
import ModelFiles
import Swiftlet
import Training

extension BenchCommand {
  static let data = Option(
    repeated: "data", "FILE", group: "Data",
    "Time what data costs instead: tokenizing it, laying out batches, steps on filled-up and on packed batches.")
  static let maxSequenceLength = Option(
    "max-seq-length", "N", default: 2048, in: 2...16_777_216, group: "Data", "Tokens of a sample at most.")
  static let batchSize = Option(
    "batch-size", "N", default: 4, in: 1...4096, group: "Data", "Samples of a batch that is filled up to its longest.")
  static let batchTokens = Option(
    "batch-tokens", "N", default: 2048, in: 2...16_777_216, group: "Data", "Tokens of a packed batch.")
  static let loadingOnly = Option(flag: "loading-only", group: "Data", "Leave out the training steps.")

  static let dataOptions = [
    data.declaration, maxSequenceLength.declaration, batchSize.declaration, batchTokens.declaration,
    loadingOnly.declaration,
  ]

  /// Times data on a model.
  static func time(data files: [String], of model: String, _ arguments: ParsedArguments, repetitions: Int) throws {
    var configuration = TrainingConfiguration()
    configuration.data = files
    configuration.maxSequenceLength = arguments[maxSequenceLength]
    configuration.batchTokens = arguments[batchTokens]
    let path = try ModelOptions.path(model)
    let checkpoint = try readingInput { try Checkpoint.open(path: path) }
    let tokenizer = try readingInput { try TreatedTokenizer(checkpoint.tokenizerSource).tokenizer }
    let device = try DeviceSelection.device(
      arguments[ModelOptions.device], compute: arguments[ModelOptions.compute],
      threads: arguments[ModelOptions.threads], note: { StandardError.write("swiftlet: \($0)\n") })
    func write(_ row: DataBenchmark.Row) throws {
      try StandardOutput.write(arguments[JSONOption.json] ? json(row, device.description) : text(row))
    }
    let (row, data) = try readingInput { try DataBenchmark.tokenize(configuration, tokenizer: tokenizer) }
    try write(row)
    try write(DataBenchmark.load(configuration, data))
    if arguments[loadingOnly] { return }
    let benchmark = try Benchmark(checkpoint, on: device)
    try write(
      benchmark.train(
        on: DataBenchmark.padded(data, batchSize: arguments[batchSize], count: repetitions), name: "train:filled-up"))
    try write(
      benchmark.train(
        on: DataBenchmark.packed(data, tokens: arguments[batchTokens], count: repetitions), name: "train:packed"))
  }

  /// Share of one core that a row's work takes beside training of so many tokens per second.
  private static let trainingSpeed = 10_000.0

  private static func json(_ row: DataBenchmark.Row, _ device: String) -> String {
    var object: JSONObject = [
      "name": .string(row.name), "tokens_per_second": .number(row.tokensPerSecond), "tokens": .integer(row.tokens),
      "seconds": .number(row.seconds), "peak_bytes": .integer(row.peakBytes),
    ]
    if row.name == "data:load" { object["core_share_at_10000"] = .number(trainingSpeed / row.tokensPerSecond) }
    if let norm = row.gradientNorm {
      object["padding_share"] = .number(row.paddingShare)
      object["grad_norm"] = .number(norm)
    }
    object["device"] = .string("\(Machine.current.processor), \(device)")
    object["commit"] = commit
    return JSONValue.object(object).serialized() + "\n"
  }

  private static func text(_ row: DataBenchmark.Row) -> String {
    var text = row.name + String(repeating: " ", count: max(1, 17 - row.name.count))
    text += "\(Formatting.count(row.tokensPerSecond)) tokens/s  \(Formatting.fixed(row.seconds, 2)) s  "
    text += Formatting.bytes(row.peakBytes)
    if row.name == "data:load" {
      let share = Formatting.fixed(100 * trainingSpeed / row.tokensPerSecond, 3)
      text += "  \(share)% of a core at \(Formatting.count(trainingSpeed)) tokens/s"
    }
    if let norm = row.gradientNorm {
      text += "  padding \(Formatting.fixed(100 * row.paddingShare, 1))%  grad \(Formatting.fixed(norm, 2))"
    }
    return text + "\n"
  }
}
