import CommandLineParsing

/// One command: its declaration and what it does.
protocol RunnableCommand: SendableMetatype {
  /// Name, arguments, options, help.
  static var command: Command { get }
  /// Does the work; a thrown ``InputFailure`` ends with status 2, any other error with 1.
  static func run(_ arguments: ParsedArguments) throws
}

/// A missing option or an unreadable input; the exit status is 2.
struct InputFailure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

/// A model has defects, which have been said; the exit status is 1.
struct DefectsFound: Error {}

/// Runs `work`, whose failures are the input's: a broken model, a malformed dataset.
func readingInput<Result>(_ work: () throws -> Result) throws -> Result {
  do {
    return try work()
  } catch let failure as Interrupted {
    throw failure
  } catch {
    throw InputFailure(oneLine(error))
  }
}

/// An error as the one line that a user sees.
func oneLine(_ error: any Error) -> String {
  "\(error)".split(whereSeparator: \.isNewline).joined(separator: " ")
}

enum SwiftletTool {
  static let version = "0.1.0"

  static let runnable: [any RunnableCommand.Type] = [
    TuneCommand.self, GenerateCommand.self, ChatCommand.self, DoctorCommand.self, ConvertCommand.self,
    QuantizeCommand.self, PlanCommand.self,
    EvalCommand.self, ExportCommand.self, TokenizeCommand.self, TemplateCommand.self, PullCommand.self,
    BenchCommand.self,
    SelfTestCommand.self, RunsCommand.self,
    InfoCommand.self,
  ]

  static let tool = Tool(
    name: "swiftlet", version: version,
    summary: "Swiftlet fine-tunes models of the Llama family, from one binary.",
    commands: runnable.map { $0.command })

  /// Runs a command line and returns the exit status: 0 done, 1 the work failed, 2 the command line or its input is
  /// wrong, 130 or 143 stopped by a signal.
  static func run(_ words: [String]) -> Int32 {
    do {
      switch try tool.parse(words) {
      case .print(let text):
        try StandardOutput.write(text.hasSuffix("\n") ? text : text + "\n")
      case .run(let name, let arguments):
        try runnable.first { $0.command.name == name }?.run(arguments)
      }
      return 0
    } catch let error as CommandLineError {
      return fail(error, status: 2)
    } catch let failure as InputFailure {
      return fail(failure, status: 2)
    } catch is DefectsFound {
      return 1
    } catch let interrupted as Interrupted {
      return interrupted.status
    } catch {
      return fail(error, status: 1)
    }
  }

  private static func fail(_ error: any Error, status: Int32) -> Int32 {
    StandardError.write("swiftlet: error: \(oneLine(error))\n")
    return status
  }
}
