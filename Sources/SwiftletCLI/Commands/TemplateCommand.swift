import CommandLineParsing
import JSONValues
import Swiftlet
import Tokenization

/// `swiftlet template`: a conversation as the model's own chat template writes it.
enum TemplateCommand: RunnableCommand {
  private static let messages = Option<String?>(
    "messages", "FILE.json", "The conversation: a list of messages, or an object with messages and tools.")
  private static let tools = Option<String?>("tools", "FILE.json", "Tools that the model may call.")
  private static let generationPrompt = Option(
    flag: "generation-prompt", aliases: ["add-generation-prompt"], "End with the beginning of an answer.")

  static let command = Command(
    name: "template", summary: "Print a conversation as the model's chat template writes it.",
    examples: ["model.gguf --messages chat.json --generation-prompt"],
    arguments: [ModelOptions.model.declaration],
    options: [messages.declaration, tools.declaration, generationPrompt.declaration])

  static func run(_ arguments: ParsedArguments) throws {
    guard let path = arguments[messages] else { throw InputFailure("--messages is missing; name a JSON file") }
    let conversation = try Conversation(path: path)
    let tools = try arguments[tools].map { try TextFiles.json($0) } ?? conversation.tools
    let tokenizer = try ModelOptions.loadTokenizer(arguments)
    let rendered = try readingInput {
      try tokenizer.renderConversation(
        conversation.messages, tools: tools, addGenerationPrompt: arguments[generationPrompt])
    }
    // Exactly the text: a newline of ours could not be told from the template's.
    try StandardOutput.write(rendered)
  }
}
