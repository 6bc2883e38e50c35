import CPUDevice
import CommandLineParsing
import Glibc
import JSONValues
import ModelFiles
import Models
import Swiftlet
import Training

/// `swiftlet bench`: tokens per second, memory, and where the time goes.
enum BenchCommand: RunnableCommand {
  private static let standard = ["train:4x512", "train:1x2048", "prefill:512", "evaluate:512", "decode:128"]

  private static let model = Option<String?>(
    "model", "MODEL",
    "A Hugging Face folder or a .gguf file; or a shape to fill with random weights: \(KnownShapes.names.joined(separator: ", ")), or the config.json of another."
  )
  private static let workload = Option(
    repeated: "workload", aliases: ["w"], "NAME",
    "What to time, may be repeated: \(standard.joined(separator: ", ")), or with other sizes, also decode:8x128 and first-token:2048; those five when not given."
  )
  private static let text = Option<String?>(
    "text", "FILE", "Time the model's tokenizer on a text instead, by one thread; it needs no weights.")
  private static let weights = Option(
    "weights", "auto|resident|on-use", default: Weights.auto,
    "With --quantization: dequantized once and kept, or for each use; auto: as memory allows.")
  private static let memory = Option<String?>(
    "memory", "SIZE", "Memory to stay within, such as 24GB; what is free when not given.")
  private static let loraRank = Option<Int?>(
    "lora-rank", aliases: ["rank", "lora-r", "r"], "N", in: 1...65536,
    "Rank of the adapter that learns, and that prompts and answers go through; when not given 16, and they go through none."
  )
  private static let repetitions = Option(
    "repetitions", aliases: ["steps"], "N", default: 5, in: 1...10000, "Timed repetitions; the median is reported.")
  private static let warmUps = Option("warm-up", "N", default: 2, in: 0...10000, "Repetitions before those, not timed.")

  /// When quantized weights are dequantized.
  enum Weights: String, CaseIterable, CommandChoice {
    case auto
    case resident
    case onUse = "on-use"
  }

  static let command = Command(
    name: "bench", summary: "Time training, prompts and answers on this machine.",
    examples: [
      "--model model.gguf", "--model model.gguf --workload train:8x256 --json", "--model phi-4/ --text book.txt",
      "--model phi-4 --device cuda --workload train:2x2048",
    ],
    options: [
      model.declaration, workload.declaration, text.declaration, repetitions.declaration, warmUps.declaration,
      weights.declaration, loraRank.declaration,
      memory.declaration, ModelOptions.hostMemory.declaration,
      JSONOption.json.declaration,
    ] + dataOptions + ModelOptions.loading + [ModelOptions.head.declaration])

  static func run(_ arguments: ParsedArguments) throws {
    guard let path = arguments[model] else {
      throw InputFailure("--model is missing; name a model folder or a .gguf file")
    }
    if !arguments[data].isEmpty {
      return try time(data: arguments[data], of: path, arguments, repetitions: arguments[repetitions])
    }
    if let file = arguments[text] { return try time(tokenizerOf: path, on: file, arguments) }
    let names = arguments[workload]
    let workloads = try (names.isEmpty ? standard : names).map { name in
      guard let workload = Benchmark.Workload(name) else {
        throw InputFailure("--workload: \"\(name)\" is not like one of \(standard.joined(separator: ", "))")
      }
      return workload
    }
    let device = try DeviceSelection.device(
      arguments[ModelOptions.device], compute: arguments[ModelOptions.compute],
      threads: arguments[ModelOptions.threads], note: { StandardError.write("swiftlet: \($0)\n") })
    let budget = try ModelOptions.bytes(arguments[memory], of: "memory")
    let hostBudget = try ModelOptions.bytes(arguments[ModelOptions.hostMemory], of: "host-memory", least: 0)
    func storage(_ configuration: ModelConfiguration) throws -> WeightStorage {
      let automatic =
        try Benchmark.storage(
          of: configuration, for: workloads, arguments[ModelOptions.quantization],
          head: arguments[ModelOptions.head], memory: budget, hostMemory: hostBudget, on: device)
        ?? DeviceSelection.storage(
          arguments[ModelOptions.quantization]
        ).withHead(arguments[ModelOptions.head].storages(for: configuration, on: device)[0])
      guard arguments[ModelOptions.quantization] == .nf4 else { return automatic }
      return switch arguments[weights] {
      case .auto: automatic
      case .resident: .nf4(resident: true).withHead(automatic.head)
      case .onUse: .nf4(resident: false).withHead(automatic.head)
      }
    }
    let kept: WeightStorage
    let benchmark: Benchmark
    if let shape = try readingInput({ try KnownShapes.shape(path) }) {
      kept = try storage(shape)
      benchmark = try Benchmark(random: shape, on: device, storage: kept, memory: budget, hostMemory: hostBudget)
    } else {
      let checkpoint = try readingInput { try Checkpoint.open(path: ModelOptions.path(path)) }
      kept = try readingInput { try storage(checkpoint.configuration) }
      benchmark = try readingInput {
        try Benchmark(checkpoint, on: device, storage: kept, memory: budget, hostMemory: hostBudget)
      }
    }
    benchmark.loraRank = arguments[loraRank]
    for workload in workloads {
      let row = try benchmark.run(
        workload, repetitions: arguments[repetitions], warmUps: arguments[warmUps])
      try StandardOutput.write(
        arguments[JSONOption.json] ? json(row, benchmark.device, layers: benchmark.layerCount, kept) : text(row))
    }
  }

  private static func time(tokenizerOf path: String, on file: String, _ arguments: ParsedArguments) throws {
    guard arguments[workload].isEmpty else { throw InputFailure("--text times the tokenizer; leave out --workload") }
    let tokenizer = try ModelOptions.loadTokenizer(path)
    let row = TokenizerBenchmark.run(tokenizer, on: try TextFiles.text(file), repetitions: arguments[repetitions])
    let (rate, bytes) = (Double(row.tokens) / row.seconds, Double(row.bytes) / row.seconds)
    guard arguments[JSONOption.json] else {
      let megabytes = "\(Formatting.fixed(bytes / 1e6, 1)) MB/s"
      let milliseconds = "\(Formatting.fixed(row.seconds * 1000, 1)) ms"
      return try StandardOutput.write(
        "tokenize  \(Formatting.count(rate)) tokens/s  \(megabytes)  \(milliseconds)  \(row.tokens) tokens\n")
    }
    let object: JSONObject = [
      "name": "tokenize", "tokens_per_second": .number(rate), "bytes_per_second": .number(bytes),
      "step_seconds": .number(row.seconds), "bytes": .integer(row.bytes), "tokens": .integer(row.tokens),
      "ids_crc32": .string(row.checksum), "threads": .integer(1), "device": .string(Machine.current.processor),
      "commit": commit,
    ]
    try StandardOutput.write(JSONValue.object(object).serialized() + "\n")
  }

  // A binary does not know where it was built from; script/bench does.
  static var commit: JSONValue { getenv("SWIFTLET_COMMIT").map { .string(String(cString: $0)) } ?? .null }

  private static func json(_ row: Benchmark.Row, _ device: String, layers: Int, _ storage: WeightStorage) -> String {
    var object: JSONObject = [
      "name": .string(row.name), "tokens_per_second": .number(row.tokensPerSecond),
      "step_seconds": .number(row.stepSeconds),
    ]
    object["peak_bytes"] = row.peakBytes.map { .integer($0) }
    object["device_bytes"] = row.deviceBytes.map { .integer($0) }
    object["predicted_bytes"] = row.predictedBytes.map { .integer($0) }
    object["predicted_step_seconds"] = row.predictedSeconds.map { .number($0) }
    object["choices"] = row.activations.map {
      .array(PlanReport.choices(of: $0, layerCount: layers) + PlanReport.choices(of: storage))
    }
    object["loss"] = row.loss.map { .number($0) }
    object["grad_norm"] = row.gradientNorm.map { .number($0) }
    object["shares"] = .object(JSONObject(row.shares.map { (key: $0.name, value: .number($0.share)) }))
    object["tflops"] = row.operationsPerSecond.map { .number($0 / 1e12) }
    object["device"] = .string("\(Machine.current.processor), \(device)")
    object["commit"] = commit
    return JSONValue.object(object).serialized() + "\n"
  }

  private static func text(_ row: Benchmark.Row) -> String {
    func padded(_ text: String, _ width: Int) -> String {
      text + String(repeating: " ", count: max(1, width - text.count))
    }
    var text = padded(row.name, 14) + padded("\(Formatting.count(row.tokensPerSecond)) tokens/s", 17)
    text += padded("\(Formatting.fixed(row.stepSeconds * 1000, 1)) ms", 12)
    if let peak = row.peakBytes { text += padded(Formatting.bytes(peak), 10) }
    if let loss = row.loss { text += padded("loss \(Formatting.fixed(loss, 3))", 13) }
    if let norm = row.gradientNorm { text += "grad \(Formatting.fixed(norm, 2))" }
    let shares = row.shares.filter { $0.share >= 0.005 }.map { "\($0.name) \(Formatting.fixed($0.share * 100, 0))%" }
    return text + "\n" + padded("", 14) + shares.joined(separator: ", ") + "\n"
  }
}
