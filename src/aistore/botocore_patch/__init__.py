"""boto3 against clusters that redirect: `from aistore.botocore_patch import botocore` has it follow where a gateway sends it."""
