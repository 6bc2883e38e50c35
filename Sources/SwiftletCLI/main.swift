import Glibc

exit(SwiftletTool.run(Array(CommandLine.arguments.dropFirst())))
