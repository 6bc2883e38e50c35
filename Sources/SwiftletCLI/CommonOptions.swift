import CommandLineParsing
import Training

extension TrainingConfiguration.DeviceChoice: CommandChoice {}
extension TrainingConfiguration.Compute: CommandChoice {}
extension TrainingConfiguration.Quantization: CommandChoice {}
extension TrainingConfiguration.Head: CommandChoice {}

/// The model and how it is loaded: the same words in every command.
enum ModelOptions {
  static let model = Argument("MODEL", "A Hugging Face folder, a .gguf file, or OWNER/NAME on the hub.")
  static let adapters = Option(
    repeated: "adapter", "DIR", "Adapter to apply, a run or a folder in PEFT's layout; several add up.")
  static let strict = Option(
    flag: "strict", "Refuse a model whose tokenizer or template has a defect, instead of repairing it in memory.")
  static let parseSpecial = Option(
    flag: "parse-special",
    "Turn special tokens that messages spell into their ids, as transformers does; without it they stay text.")
  static let chatTemplate = Option<String?>(
    "chat-template", "FILE", "Chat template (Jinja) to use instead of the model's own.")
  static let template = Option<String?>(
    "template", "NAME", "Which of the model's chat templates to use; tool_use is taken by itself when tools are given.")
  static let device = Option(
    "device", "auto|cpu|cuda", default: TrainingConfiguration.DeviceChoice.auto, group: "Machine", "Where to compute.")
  static let compute = Option(
    "compute", "auto|bf16|fp32", default: TrainingConfiguration.Compute.auto, group: "Machine",
    "Operand type of matrix products.")
  static let threads = Option<Int?>(
    "threads", "N", in: 1...4096, group: "Machine", "Threads; one per CPU when not given.")

  static let quantization = Option(
    "quantization", "none|nf4", default: TrainingConfiguration.Quantization.none, group: "Machine",
    "How the frozen weights are kept: nf4 takes 4 bits each.")

  static let head = Option(
    "head", "auto|bf16|8bit|nf4", default: TrainingConfiguration.Head.auto, group: "Machine",
    "How the head is kept; auto: in 16 bits, in fewer on a GPU where nothing else fits.")

  static let hostMemory = Option<String?>(
    "host-memory", "SIZE", "The host's memory to use beside a GPU's; four fifths of what is free when not given.")

  /// The bytes that an option says, `least` or more; nil where it is not given.
  static func bytes(_ text: String?, of option: String, least: Int = 1) throws -> Int? {
    guard let text else { return nil }
    guard let bytes = parseByteCount(text), bytes >= least else {
      throw InputFailure("--\(option): \"\(text)\" is not a size such as 24GB or 512MiB")
    }
    return bytes
  }

  static let machine = [device.declaration, compute.declaration, threads.declaration]
  /// What decides how a model is loaded, the machine included.
  static let loading = machine + [quantization.declaration]
}

/// How the next token is drawn.
enum SamplingArguments {
  static let maxTokens = Option(
    "max-tokens", aliases: ["max-new-tokens", "n"], "N", default: 256, in: 1...16_777_216, group: "Sampling",
    "Tokens to generate at most.")
  static let temperature = Option(
    "temperature", aliases: ["temp", "t"], "T", default: 0.7, in: 0...100, group: "Sampling",
    "Randomness; 0 takes the likeliest token.")
  static let topP = Option(
    "top-p", "P", default: 0.95, in: 0...1, group: "Sampling",
    "Draw from the likeliest tokens that hold this probability.")
  static let topK = Option(
    "top-k", "K", default: 0, in: 0...1_000_000, group: "Sampling", "Draw from the K likeliest tokens; 0: all.")
  static let minP = Option(
    "min-p", "P", default: 0.0, in: 0...1, group: "Sampling",
    "Leave out tokens less likely than P times the likeliest.")
  static let repetitionPenalty = Option(
    "repetition-penalty", "X", default: 1.0, in: 0.01...100, group: "Sampling",
    "Divide the score of tokens already there; 1: off.")
  static let seed = Option<UInt64>("seed", "N", default: 3407, group: "Sampling", "Seed of the draws.")
  static let stop = Option(repeated: "stop", "TEXT", group: "Sampling", "Text that ends the answer; may be repeated.")

  static let declarations = [
    maxTokens.declaration, temperature.declaration, topP.declaration, topK.declaration, minP.declaration,
    repetitionPenalty.declaration, seed.declaration, stop.declaration,
  ]
}

/// Machine-readable results on standard output.
enum JSONOption {
  static let json = Option(flag: "json", "Print JSON to standard output, and nothing else.")
}
