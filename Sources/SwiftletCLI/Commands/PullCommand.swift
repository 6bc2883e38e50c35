import CommandLineParsing
import Hub
import JSONValues

/// `swiftlet pull`: fetches a model from the hub.
enum PullCommand: RunnableCommand {
  private static let repository = Argument(
    "REPO", "A model on the hub: OWNER/NAME, or OWNER/NAME/FILE for one file of it.")
  private static let revision = Option<String?>("revision", "R", "A branch, tag or commit; main when not given.")
  private static let include = Option(
    repeated: "include", "GLOB", "Fetch only files that match; may be repeated. '*' takes everything.")
  private static let exclude = Option(repeated: "exclude", "GLOB", "Leave out files that match; may be repeated.")

  static let command = Command(
    name: "pull", summary: "Fetch a model from the Hugging Face hub into the shared cache.",
    examples: [
      "microsoft/phi-4", "unsloth/phi-4-GGUF/phi-4-Q4_K_M.gguf",
      "microsoft/phi-4 --include '*.json' --include 'merges.txt'",
    ],
    arguments: [repository.declaration],
    options: [revision.declaration, include.declaration, exclude.declaration, JSONOption.json.declaration])

  static func run(_ arguments: ParsedArguments) throws {
    guard let name = RepositoryName(arguments[repository], revision: arguments[revision]) else {
      throw InputFailure("'\(arguments[repository])' is no name of a model on the hub; they look like microsoft/phi-4")
    }
    Interruption.catchSignals()
    let line = DownloadLine(name.id)
    defer { line.finish() }
    let path: String
    do {
      path = try HuggingFaceHub().pull(
        name, FileSelection(include: arguments[include], exclude: arguments[exclude]),
        isCancelled: { Interruption.isRequested }, onRemark: line.remark, onProgress: line.show)
    } catch {
      line.finish()
      if Interruption.isRequested {
        StandardError.write("swiftlet: \(oneLine(error))\n")
        throw Interruption.error
      }
      throw error
    }
    line.finish()
    let json: JSONObject = ["path": .string(path)]
    try StandardOutput.write((arguments[JSONOption.json] ? JSONValue.object(json).serialized() : path) + "\n")
  }
}
