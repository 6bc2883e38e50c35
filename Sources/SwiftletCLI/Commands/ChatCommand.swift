import CommandLineParsing
import Glibc
import JSONValues
import Swiftlet

/// `swiftlet chat`: a conversation on the terminal.
enum ChatCommand: RunnableCommand {
  private static let system = Option<String?>("system", "TEXT", "System message at the beginning.")

  static let command = Command(
    name: "chat", summary: "Talk with a model; /reset forgets, /exit ends, ^C stops an answer.",
    examples: ["model.gguf", "model.gguf --adapter run"],
    arguments: [ModelOptions.model.declaration],
    options: [
      ModelOptions.adapters.declaration, ModelOptions.chatTemplate.declaration, ModelOptions.strict.declaration,
      ModelOptions.parseSpecial.declaration, system.declaration,
    ] + SamplingArguments.declarations
      + ModelOptions.loading)

  static func run(_ arguments: ParsedArguments) throws {
    let model = try ModelOptions.load(arguments)
    guard model.tokenizer.chatTemplate != nil else {
      throw InputFailure("\(arguments[ModelOptions.model]) has no chat template; use generate --raw")
    }
    let options = SamplingArguments.options(arguments)
    let beginning = arguments[system].map { [message("system", $0)] } ?? []
    var messages = beginning
    let session = GenerationSession()
    Interruption.catchSignals()
    while true {
      if StandardError.isTerminal { StandardError.write("> ") }
      guard let line = readLine(), !Interruption.isRequested else { break }
      switch line.drop(while: \.isWhitespace) {
      case "": continue
      case "/exit", "/quit": return
      case "/reset": messages = beginning
      case let word where word.hasPrefix("/") && !word.contains(" "):
        StandardError.write("swiftlet: /reset forgets the conversation, /exit ends\n")
      default:
        messages.append(message("user", line))
        if let answer = try answer(messages, model, options, session) {
          messages.append(message("assistant", answer))
        } else {
          messages.removeLast()
        }
      }
    }
    if StandardError.isTerminal { StandardError.write("\n") }
    if Interruption.signal == SIGTERM { throw Interruption.error }
  }

  /// Streams the answer; nil when the conversation cannot go on with it.
  private static func answer(
    _ messages: [JSONValue], _ model: Model, _ options: GenerationOptions, _ session: GenerationSession
  ) throws -> String? {
    var failure: (any Error)?
    do {
      let generation = try model.generate(.messages(.array(messages)), options: options, session: session) { text in
        do { try StandardOutput.write(text) } catch { failure = error }
        return failure == nil && !Interruption.isRequested
      }
      if let failure { throw failure }
      try StandardOutput.write("\n")
      // ^C stops the answer, not the conversation.
      if Interruption.signal == SIGINT { Interruption.clear() }
      return generation.text
    } catch let failure as OutputFailure {
      throw failure
    } catch {
      StandardError.write("swiftlet: \(oneLine(error)); /reset begins anew\n")
      return nil
    }
  }

  private static func message(_ role: String, _ content: String) -> JSONValue {
    .object(["role": .string(role), "content": .string(content)])
  }
}
