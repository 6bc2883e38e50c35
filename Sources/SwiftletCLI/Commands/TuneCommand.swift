import CommandLineParsing
import JSONValues
import Swiftlet
import Tokenization
import Training

/// `swiftlet tune`: fine-tunes a model and saves the adapter.
enum TuneCommand: RunnableCommand {
  private static let config = Option<String?>(
    "config", aliases: ["c"], "FILE.yaml", group: "Data", "Options as YAML, with _ for -; flags override them.")
  private static let dryRun = Option(
    flag: "dry-run", group: "Evaluation and saving", "Print the resolved options as YAML and load nothing.")
  private static let json = Option(
    flag: "json", group: "Evaluation and saving", "Print the summary as JSON to standard output.")
  private static let progress = Option(
    "progress", "line|json|quiet", default: ProgressMode.line, group: "Evaluation and saving",
    "What is shown of each step: a line on standard error, a JSON object on standard output, or nothing.")
  private static let quiet = Option(
    flag: "quiet", aliases: ["q"], group: "Evaluation and saving", "Say nothing but warnings and errors.")
  private static let preview = Option<Int?>(
    "preview", "N", in: 1...1_000_000, group: "Data",
    "Print the first N samples as training sees them, what is trained in colour, and do nothing else.")

  static let command = Command(
    name: "tune", summary: "Fine-tune a model with LoRA and save the adapter.",
    examples: [
      "model.gguf --data chats.jsonl", "model/ --data chats.jsonl --epochs 3 --lr 1e-4 --output run",
      "--config run/config.yaml --resume",
    ],
    arguments: TrainingOption.all.filter(\.isPositional).map {
      ArgumentDeclaration(name: $0.placeholder, help: $0.help, isRequired: false)
    },
    options: [config.declaration] + TrainingOption.all.filter { !$0.isPositional }.map(declaration)
      + [preview.declaration, dryRun.declaration, progress.declaration, quiet.declaration, json.declaration])

  static func run(_ arguments: ParsedArguments) throws {
    let began = MonotonicClock.now()
    let (configuration, chosen) = try resolved(arguments)
    if arguments[dryRun] { return try StandardOutput.write(configuration.yaml()) }

    if let count = arguments[preview] {
      return try showPreview(configuration, count: count, asJSON: arguments[json])
    }

    Interruption.catchSignals(
      beforeWorkSaying: "\nswiftlet: stopped before training began; this begins it:\n\(commandLine(resumes: false))\n")
    var line = ProgressLine()
    let mode = arguments[quiet] ? .quiet : arguments[progress]
    if mode != .quiet { StandardError.write("swiftlet: loading \(configuration.model)\n") }
    let tuning = try readingInput {
      var options = LoadOptions()
      options.device = configuration.device
      options.onFallback = { StandardError.write("swiftlet: \($0)\n") }
      options.compute = configuration.compute
      options.isDeterministic = configuration.deterministic
      options.quantization = configuration.quantization
      if configuration.quantization == .dynamic {
        options.calibrationText = try configuration.calibration.map { try TextFiles.text($0) }
        options.budget = configuration.budget
        StandardError.write("swiftlet: looking for the layers that four bits would hurt\n")
      }
      options.memory = configuration.memory
      options.training = configuration
      options.threads = configuration.threads
      options.chatTemplate = try configuration.chatTemplate.map { try ChatTemplate(file: $0) }
      options.strict = configuration.strict
      let model = try Model.load(configuration.model, at: ModelOptions.path(configuration.model), options: options)
      do {
        return try FineTuning(model: model, configuration: configuration, chosen: chosen, began: began)
      } catch let error as TrainingConfigurationError {
        throw InputFailure("--\(error.option): \(error.reason)")
      }
    }
    ModelOptions.remarkBases(of: configuration.adapter.map { [$0] } ?? [], for: configuration.model)
    ModelOptions.announce(tuning.model.examination)
    if mode == .quiet {
      DataSummary(tuning.data, tuning.dataDescription, tuning.configuration).warn()
    } else {
      announce(tuning)
    }
    defer { line.finish() }
    Interruption.beginWork()
    tuning.isStopRequested = { Interruption.isRequested }
    let summary = try tuning.run { progress in
      switch mode {
      case .line:
        line.show(ProgressLine.Step(progress), at: MonotonicClock.now())
        if !progress.samples.isEmpty { line.finish() }
        for sample in progress.samples { StandardError.write(Self.text(of: sample)) }
      case .json: try? StandardOutput.write(json(progress))
      case .quiet: break
      }
      return .continue
    }
    line.finish()
    // Alone on standard output, as a machine reads it; a quiet run has said all in its folder.
    if mode != .quiet || arguments[json] {
      try report(summary, isFull: configuration.full, asJSON: arguments[json] || mode == .json)
    }
    if summary.stoppedEarly {
      let why = summary.end == .timeLimit ? "the time is over" : "stopped"
      StandardError.write(
        "swiftlet: \(why), saved at step \(summary.steps); this goes on:\n\(commandLine(resumes: true))\n")
    }
  }

  /// The command line of this process, with `--resume` where wanted, as a shell reads it.
  private static func commandLine(resumes: Bool) -> String {
    var words = CommandLine.arguments
    if resumes, !words.contains(where: { $0 == "--resume" || $0.hasPrefix("--resume=") }) {
      // Before a `--`, after which all words are positional.
      words.insert("--resume", at: words.firstIndex(of: "--") ?? words.endIndex)
    }
    return words.map(ShellWord.quoted).joined(separator: " ")
  }

  /// A prompt and its answer, a line each.
  private static func text(of sample: SampleAnswer) -> String {
    func line(_ text: String) -> String { text.split(whereSeparator: \.isNewline).joined(separator: " ⏎ ") }
    return "swiftlet: asked    \(line(sample.prompt))\nswiftlet: answered \(line(sample.answer))\n"
  }

  /// What is about to happen, line by line.
  private static func announce(_ tuning: FineTuning) {
    DataSummary(tuning.data, tuning.dataDescription, tuning.configuration).announce()
    if let sample = try? tuning.data.preview(ofExample: 0, tokenizer: tuning.model.tokenizer) {
      StandardError.write(
        SampleText.text(
          sample, number: 1, isColoured: SampleText.isColoured(isTerminal: StandardError.isTerminal),
          limit: SampleText.mostCharacters))
    }
    let done = tuning.stepsDone > 0 ? ", \(tuning.stepsDone) of them done" : ""
    if tuning.configuration.evalShare != nil {
      StandardError.write("swiftlet: \(tuning.heldOutCount) examples are held out\n")
    }
    StandardError.write(
      """
      swiftlet: \(Formatting.count(Double(tuning.parameterCount))) parameters learn on \(tuning.model.deviceDescription)
      swiftlet: \(tuning.totalSteps) steps\(done), into \(tuning.configuration.output)

      """)
  }

  /// Defaults, then the YAML file, then flags, and the options that were given; errors say where the value stands.
  private static func resolved(
    _ arguments: ParsedArguments
  ) throws -> (configuration: TrainingConfiguration, chosen: Set<String>) {
    var configuration = TrainingConfiguration()
    let yaml = try arguments[config].map { path in try readingInput { try YAMLConfiguration(path: path) } }
    try readingInput { try yaml?.apply(to: &configuration) }
    var given: Set<String> = []
    do {
      for option in TrainingOption.all {
        let texts =
          option.isPositional ? arguments.text(of: option.placeholder).map { [$0] } : arguments.texts(of: option.name)
        guard let texts else { continue }
        given.insert(option.name)
        try option.set(texts, in: &configuration)
      }
      let chosen = TrainingOption.all.map(\.name).filter { given.contains($0) || yaml?.line(of: $0) != nil }
      return (try configuration.validated(), Set(chosen))
    } catch {
      let option = TrainingOption.named(error.option)
      if !given.contains(error.option), let yaml, let line = yaml.line(of: error.option) {
        throw InputFailure("\(yaml.file):\(line): \(option?.key ?? error.option): \(error.reason)")
      }
      throw InputFailure("\(option?.isPositional == true ? "MODEL" : "--" + error.option): \(error.reason)")
    }
  }

  private static func declaration(of option: TrainingOption) -> OptionDeclaration {
    let arity: OptionDeclaration.Arity =
      switch option.kind {
      case .flag: .flag(negatable: true)
      case .texts, .words: .many
      default: .one
      }
    let fallback = TrainingConfiguration()
    var shown = option.text(in: fallback)
    if option.kind == .flag { shown = shown == "true" ? "on" : nil }
    return OptionDeclaration(
      name: option.name, aliases: option.aliases, arity: arity, placeholder: option.placeholder, help: option.help,
      defaultText: shown, group: option.group.rawValue)
  }

  private static func report(_ summary: TrainingSummary, isFull: Bool, asJSON: Bool) throws {
    if asJSON {
      var object: JSONObject = [
        "steps": .integer(summary.steps), "tokens": .integer(summary.tokens), "seconds": .number(summary.seconds),
        "tokens_per_second": .number(summary.tokensPerSecond), "peak_bytes": .integer(summary.peakBytes),
        "adapter": .string(summary.adapterPath), "stopped_early": .bool(summary.stoppedEarly),
        "end": .string(summary.end.rawValue), "skipped_steps": .integer(summary.skippedSteps),
        "loss_spikes": .integer(summary.lossSpikes), "longest_save_stall": .number(summary.longestSaveStall),
      ]
      object["first_loss"] = summary.firstLoss.map { .number($0) }
      object["last_loss"] = summary.lastLoss.map { .number($0) }
      object["eval_before"] = summary.evalBefore.map { .number($0) }
      object["eval_after"] = summary.evalAfter.map { .number($0) }
      if let best = summary.best {
        object["best_step"] = .integer(best.step)
        object["best_eval_loss"] = .number(best.loss)
      }
      return try StandardOutput.write(JSONValue.object(object).serialized() + "\n")
    }
    var text = "steps     \(summary.steps) of \(summary.totalSteps)\n"
    if let first = summary.firstLoss, let last = summary.lastLoss {
      text += "loss      \(Formatting.fixed(first, 4)) → \(Formatting.fixed(last, 4))\n"
    }
    if let before = summary.evalBefore, let after = summary.evalAfter {
      text += "held out  \(Formatting.fixed(before, 4)) → \(Formatting.fixed(after, 4))\n"
    }
    if summary.end == .earlyStopping, let best = summary.best {
      text +=
        "ended     the held-out loss has not fallen below \(Formatting.fixed(best.loss, 4)) of step \(best.step)\n"
    }
    if summary.skippedSteps > 0 {
      text += "skipped   \(summary.skippedSteps) steps without a finite loss or gradient\n"
    }
    if summary.lossSpikes > 0 { text += "spikes    \(summary.lossSpikes) steps whose loss leapt\n" }
    text += "speed     \(Formatting.count(summary.tokensPerSecond)) tokens/s\n"
    text += "memory    \(Formatting.bytes(summary.peakBytes)) at most\n"
    text += "\(isFull ? "model    " : "adapter  ") \(summary.adapterPath)\n"
    try StandardOutput.write(text)
  }
}

extension ProgressLine.Step {
  init(_ progress: TrainingProgress) {
    self.init(
      step: progress.step, totalSteps: progress.totalSteps, loss: progress.loss, learningRate: progress.learningRate,
      gradientNorm: progress.gradientNorm, tokensPerSecond: progress.tokensPerSecond, eta: progress.eta,
      memoryBytes: progress.memoryBytes, evalLoss: progress.evalLoss, rewardAccuracy: progress.rewardAccuracy,
      isSkipped: progress.isSkipped,
      isSpike: progress.isSpike)
  }
}
