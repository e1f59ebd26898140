import asyncio
async def main():
    try:
        raise KeyboardInterrupt
    finally:
        print('cleaned up')
asyncio.run(main())
